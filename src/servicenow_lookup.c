/*
 * servicenow_lookup.c
 *	  Look-ups as Table and Meta API calls inside one Batch.
 *
 * A look-up becomes one or several GETs.  An unknown column in a query is
 * dropped by the platform and everything comes back (servicenow-api 0.8), so
 * every row is compared with the keys before it counts as an answer.
 *
 * Copyright (c) 2026, the pgsync_itsm authors; PostgreSQL licence
 */
#include "postgres.h"

#include "nodes/pg_list.h"

#include <json-c/json.h>

#include "servicenow.h"

/* Rows asked for in one GET, keys in one, and about how long its query may get before it is encoded. */
#define ROW_LIMIT 2000
#define PAGE_ROWS 1000
#define PAGES_PER_REQUEST 3
#define KEYS_PER_GET 100
#define QUERY_BYTES 6000
#define ENCODED_BYTES 7000

/*
 * Keys in one request, so that the parsed answer stays a matter of a few MB: of
 * kinds whose rows are small, and of those that bring more than so many fields.
 */
#define PLAIN_KEYS 2500
#define WIDE_KEYS 1000
#define WIDE_FIELDS 4

typedef struct LookupKind LookupKind;

/* Where the rows of one look-up go. */
typedef struct Reading
{
	const AdapterConnection *conn;
	const AdapterLookup		*lookup;
	const LookupKind		*kind;
	int						 number; /* of the look-up */
	AdapterLookupResult		*result;
	ServicenowIndex			*first_key; /* by text, the first of the keys that have it; NULL before it is asked for */
	int						*next_key;	/* the next one with the same text, -1: none */
	int						 first_row; /* of this look-up */
	int						 room;		/* allocated rows */
	bool					 unusable;	/* a row has no id that could be one */
} Reading;

struct LookupKind
{
	const char *kind;
	bool		optional; /* a refusal means no rows, not a failure */
	List *(*urls)(const AdapterConnection *conn, const AdapterLookup *lookup, const LookupKind *kind);
	void (*rows)(Reading *reading, struct json_object *answer);

	/* for kinds that ask a table by key: NULL table is the look-up's target */
	const char *table;
	const char *keys[2];
	const char *filter;
	const char *order;
	const char *id;
	const char *class_column;
	const char *label;
	const char *attrs[4];
	const char *check;		 /* column that must have check_value, in the query and in every row */
	const char *check_value; /* NULL: the connection's source name */
};

/* ------------------------------------------------------------ class chains */

/* Ancestors that are known without asking; cmdb_ci is every other CI class's (servicenow-api 10). */
static const char *
parent_class(const char *class_name)
{
	static const char *const parents[][2] = {
		{"cmdb_ci_service_discovered", "cmdb_ci_service_auto"},
		{"cmdb_ci_service_calculated", "cmdb_ci_service_auto"},
		{"cmdb_ci_service_by_tags", "cmdb_ci_service_auto"},
		{"cmdb_ci_query_based_service", "cmdb_ci_service_auto"},
		{"cmdb_ci_service_auto", "cmdb_ci_service"},
		{"cmdb_ci_service_technical", "cmdb_ci_service"},
		{"cmdb_ci_service_business", "cmdb_ci_service"},
		{"service_offering", "cmdb_ci_service"},
		{"cmdb_software_product_model", "cmdb_model"},
		{"cmdb_application_product_model", "cmdb_model"},
		{"cmdb_contract_product_model", "cmdb_model"},
		{"cmdb_ci", "cmdb"},
	};

	for (int i = 0; i < (int) lengthof(parents); i++)
	{
		if (strcmp(class_name, parents[i][0]) == 0)
			return parents[i][1];
	}
	return strncmp(class_name, "cmdb_ci_", strlen("cmdb_ci_")) == 0 ? "cmdb_ci" : NULL;
}

/* How far class_name is above the class of the look-up; -1 if it is no ancestor. */
static int
class_distance(const char *from, const char *class_name)
{
	int distance = 0;

	for (const char *at = from; at != NULL; at = parent_class(at), distance++)
	{
		if (strcmp(at, class_name) == 0)
			return distance;
	}
	return -1;
}

static bool
is_ci_class(const char *class_name)
{
	return class_distance(class_name, "cmdb_ci") >= 0;
}

/* "column=class^ORcolumn=parent..." */
static void
append_chain(StringInfo query, const char *column, const char *class_name)
{
	const char *separator = "";

	for (const char *at = class_name; at != NULL; at = parent_class(at))
	{
		appendStringInfo(query, "%s%s=%s", separator, column, at);
		separator = "^OR";
	}
}

/* ---------------------------------------------------------------- rows out */

static AdapterLookupRow *
add_row(Reading *reading)
{
	AdapterLookupResult *result = reading->result;
	AdapterLookupRow	*row;

	if (result->nrows == reading->room)
	{
		reading->room = Max(reading->room * 2, 64);
		result->rows = result->rows == NULL ? palloc(sizeof(AdapterLookupRow) * reading->room)
											: repalloc(result->rows, sizeof(AdapterLookupRow) * reading->room);
	}
	row = &result->rows[result->nrows++];
	memset(row, 0, sizeof(*row));
	row->lookup = reading->number;
	return row;
}

static const char *
server_text(const char *utf8)
{
	return utf8 == NULL || utf8[0] == '\0' ? NULL : json_to_server(utf8);
}

/* A record may come back from two GETs of one look-up, or for two columns of its key. */
static bool
is_known(const Reading *reading, const char *key, const char *external_id)
{
	for (int i = reading->result->nrows - 1; i >= reading->first_row; i--)
	{
		const AdapterLookupRow *row = &reading->result->rows[i];

		if (row->external_id != NULL && external_id != NULL && strcmp(row->external_id, external_id) == 0 &&
			strcmp(row->key, key) == 0)
			return true;
	}
	return false;
}

static void
append_attr(StringInfo attrs, struct json_object *record, const char *name)
{
	const char *value = servicenow_answer_value(record, name);

	if (value != NULL)
		json_append_member(attrs, name, value);
}

/* The columns that a kind always shows, and those that were asked for, each once. */
static const char *
attrs_of(const Reading *reading, struct json_object *record)
{
	const LookupKind *kind = reading->kind;
	StringInfoData	  attrs;

	initStringInfo(&attrs);
	appendStringInfoChar(&attrs, '{');
	for (int i = 0; i < (int) lengthof(kind->attrs) && kind->attrs[i] != NULL; i++)
		append_attr(&attrs, record, kind->attrs[i]);
	for (int i = 0; i < reading->lookup->nfields; i++)
	{
		bool seen = false;

		for (int j = 0; j < (int) lengthof(kind->attrs) && kind->attrs[j] != NULL; j++)
			seen = seen || strcmp(kind->attrs[j], reading->lookup->fields[i]) == 0;
		if (!seen)
			append_attr(&attrs, record, reading->lookup->fields[i]);
	}
	if (attrs.len == 1)
		return NULL;
	appendStringInfoChar(&attrs, '}');
	return json_to_server(attrs.data);
}

/* ------------------------------------------------------------- keyed kinds */

static const char *
table_of(const AdapterLookup *lookup, const LookupKind *kind)
{
	return kind->table != NULL ? kind->table : lookup->target;
}

/* Is the name in a comma list? */
static bool
is_listed(const char *list, const char *name)
{
	size_t length = strlen(name);

	for (const char *at = list; (at = strstr(at, name)) != NULL; at += length)
	{
		if ((at == list || at[-1] == ',') && (at[length] == ',' || at[length] == '\0'))
			return true;
	}
	return false;
}

static void
append_field(StringInfo fields, const char *name)
{
	if (name != NULL && name[0] != '\0' && !is_listed(fields->data, name))
		appendStringInfo(fields, "%s%s", fields->len > 0 ? "," : "", name);
}

static char *
fields_of(const AdapterLookup *lookup, const LookupKind *kind)
{
	StringInfoData fields;

	initStringInfo(&fields);
	append_field(&fields, kind->id);
	append_field(&fields, kind->keys[0]);
	append_field(&fields, kind->keys[1]);
	append_field(&fields, kind->class_column);
	append_field(&fields, kind->label);
	append_field(&fields, kind->check);
	for (int i = 0; i < (int) lengthof(kind->attrs); i++)
		append_field(&fields, kind->attrs[i]);
	for (int i = 0; i < lookup->nfields; i++)
		append_field(&fields, lookup->fields[i]);
	return fields.data;
}

static const char *
check_value(const AdapterConnection *conn, const LookupKind *kind)
{
	return kind->check_value != NULL ? kind->check_value : conn->source_name;
}

/* One GET: the kind's filter, the conditions on keys, and an order, for without one there is none. */
static char *
keyed_url(const AdapterConnection *conn, const AdapterLookup *lookup, const LookupKind *kind, const char *conditions)
{
	StringInfoData query;

	initStringInfo(&query);
	if (kind->filter != NULL)
		appendStringInfo(&query, "%s^", kind->filter);
	if (kind->check != NULL && servicenow_query_condition(&query, kind->check, check_value(conn, kind)))
		appendStringInfoChar(&query, '^');
	appendStringInfo(&query, "%s^%s", conditions, kind->order != NULL ? kind->order : "ORDERBYsys_id");
	return servicenow_query_list_url(table_of(lookup, kind), query.data, fields_of(lookup, kind), ROW_LIMIT);
}

/* Appends the alternatives that one key adds to a group; false if the key cannot be asked for. */
static bool
append_key(StringInfo conditions, const LookupKind *kind, const char *key)
{
	for (int i = 0; i < 2 && kind->keys[i] != NULL; i++)
	{
		int before = conditions->len;

		if (before > 0)
			appendStringInfoString(conditions, "^OR");
		if (!servicenow_query_condition(conditions, kind->keys[i], key))
		{
			conditions->len = before;
			conditions->data[before] = '\0';
			return false;
		}
	}
	return true;
}

static int
encoded_length(const char *text)
{
	StringInfoData url;
	int			   length;

	initStringInfo(&url);
	servicenow_query_encode(&url, text);
	length = url.len;
	pfree(url.data);
	return length;
}

/*
 * As many keys in a GET as its length allows.  A key that can only be asked
 * for by a part of itself has a GET of its own, since it may bring many rows.
 */
static List *
keyed_urls(const AdapterConnection *conn, const AdapterLookup *lookup, const LookupKind *kind)
{
	List		  *urls = NIL;
	StringInfoData group;
	StringInfoData alone;
	int			   count = 0;
	int			   bytes = 0;

	initStringInfo(&group);
	initStringInfo(&alone);
	for (int i = 0; i < lookup->nkeys; i++)
	{
		const char *key = lookup->keys[i];
		int			length = encoded_length(key) * (kind->keys[1] != NULL ? 2 : 1) + 40;

		if (key[0] == '\0')
			continue;
		if (!servicenow_query_plain(key))
		{
			resetStringInfo(&alone);
			if (append_key(&alone, kind, key))
				urls = lappend(urls, keyed_url(conn, lookup, kind, alone.data));
			continue;
		}
		if (count > 0 && (count >= KEYS_PER_GET || bytes + length > ENCODED_BYTES))
		{
			urls = lappend(urls, keyed_url(conn, lookup, kind, group.data));
			resetStringInfo(&group);
			count = bytes = 0;
		}
		append_key(&group, kind, key);
		bytes += length;
		count++;
	}
	if (count > 0)
		urls = lappend(urls, keyed_url(conn, lookup, kind, group.data));
	return urls;
}

/* Is the row one that the query should have left out? */
static bool
is_foreign(const Reading *reading, struct json_object *record)
{
	const LookupKind *kind = reading->kind;
	const char		 *value = kind->check != NULL ? servicenow_answer_value(record, kind->check) : NULL;

	return value != NULL && !servicenow_query_same(value, check_value(reading->conn, kind));
}

/* What a key's rows are found by: the parent of a relationship, else the key as the platform compares it. */
static char *
key_text(const LookupKind *kind, const char *key)
{
	return servicenow_query_folded(kind->keys[0] != NULL ? key : pnstrdup(key, strcspn(key, "/")));
}

/* Many rows are compared with many keys, so those are found by their text. */
static void
index_keys(Reading *reading)
{
	const AdapterLookup *lookup = reading->lookup;

	if (reading->first_key != NULL)
		return;
	reading->first_key = servicenow_index_new(lookup->nkeys);
	reading->next_key = palloc(sizeof(int) * Max(lookup->nkeys, 1));
	for (int k = lookup->nkeys - 1; k >= 0; k--)
	{
		char *text = key_text(reading->kind, lookup->keys[k]);

		reading->next_key[k] = servicenow_index_find(reading->first_key, text);
		servicenow_index_set(reading->first_key, text, k);
	}
}

/* The first of the keys with the text of a column, -1 if it was not asked for. */
static int
first_key(Reading *reading, struct json_object *record, const char *column)
{
	const char *value = servicenow_answer_value(record, column);
	char	   *text;
	int			first;

	index_keys(reading);
	if (value == NULL || value[0] == '\0')
		return -1;
	text = servicenow_query_folded(value);
	first = servicenow_index_find(reading->first_key, text);
	pfree(text);
	return first;
}

static void
keyed_row(Reading *reading, struct json_object *record, const char *key)
{
	const LookupKind *kind = reading->kind;
	const char		 *external_id = server_text(servicenow_answer_value(record, kind->id));
	const char *class_name = kind->class_column != NULL ? servicenow_answer_value(record, kind->class_column) : NULL;
	AdapterLookupRow *row;

	if (external_id == NULL || is_foreign(reading, record) || is_known(reading, json_to_server(key), external_id))
		return;
	if (!servicenow_query_may_be_id(external_id))
	{
		reading->unusable = true;
		return;
	}
	row = add_row(reading);
	row->key = json_to_server(key);
	row->external_id = external_id;
	row->external_table =
		servicenow_answer_table(class_name, strcmp(kind->id, "sys_id") == 0 ? table_of(reading->lookup, kind) : NULL);
	if (kind->label != NULL)
		row->label = server_text(servicenow_answer_value(record, kind->label));
	row->attrs = attrs_of(reading, record);
}

static void
keyed_rows(Reading *reading, struct json_object *answer)
{
	struct json_object *records = json_member(answer, "result");

	for (int i = 0; i < json_count(records); i++)
	{
		struct json_object *record = json_item(records, i);

		for (int c = 0; c < 2 && reading->kind->keys[c] != NULL; c++)
		{
			int k = first_key(reading, record, reading->kind->keys[c]);

			for (; k >= 0; k = reading->next_key[k])
				keyed_row(reading, record, reading->lookup->keys[k]);
		}
	}
}

/* ------------------------------------------------------- choice, life cycle */

static List *
one_url(const char *table, const char *query, const char *fields)
{
	return list_make1(servicenow_query_list_url(table, query, fields, ROW_LIMIT));
}

static List *
choice_urls(const AdapterConnection *conn, const AdapterLookup *lookup, const LookupKind *kind)
{
	StringInfoData query;

	if (lookup->nkeys == 0)
		return NIL;
	initStringInfo(&query);
	append_chain(&query, "name", lookup->target);
	for (int i = 0; i < lookup->nkeys; i++)
		appendStringInfo(&query, "%selement=%s", i == 0 ? "^" : "^OR", lookup->keys[i]);
	appendStringInfoString(&query, "^inactive=false^language=en^ORDERBYsequence^ORDERBYsys_id");
	return one_url(kind->table, query.data, "name,element,value,label,sequence,dependent_value");
}

/* The nearest class that has choices of its own for a column hides its ancestors' (servicenow-api 10.11). */
static int
nearest_distance(const AdapterLookup *lookup, struct json_object *records, const char *column)
{
	int nearest = -1;

	for (int i = 0; i < json_count(records); i++)
	{
		const char *element = servicenow_answer_value(json_item(records, i), "element");
		const char *name = servicenow_answer_value(json_item(records, i), "name");
		int			distance = name != NULL ? class_distance(lookup->target, name) : -1;

		if (element != NULL && strcmp(element, column) == 0 && distance >= 0 && (nearest < 0 || distance < nearest))
			nearest = distance;
	}
	return nearest;
}

static void
choice_row(Reading *reading, struct json_object *record, const char *column)
{
	AdapterLookupRow *row = add_row(reading);

	row->key = json_to_server(column);
	row->external_id = json_to_server(servicenow_answer_value(record, "value"));
	row->external_table = server_text(servicenow_answer_value(record, "name"));
	row->label = server_text(servicenow_answer_value(record, "label"));
	row->attrs = attrs_of(reading, record);
}

static void
choice_rows(Reading *reading, struct json_object *answer)
{
	struct json_object *records = json_member(answer, "result");

	for (int k = 0; k < reading->lookup->nkeys; k++)
	{
		const char *column = reading->lookup->keys[k];
		int			nearest = nearest_distance(reading->lookup, records, column);

		for (int i = 0; i < json_count(records) && nearest >= 0; i++)
		{
			struct json_object *record = json_item(records, i);
			const char		   *element = servicenow_answer_value(record, "element");
			const char		   *name = servicenow_answer_value(record, "name");

			if (element != NULL && strcmp(element, column) == 0 && name != NULL &&
				servicenow_answer_value(record, "value") != NULL &&
				class_distance(reading->lookup->target, name) == nearest)
				choice_row(reading, record, column);
		}
	}
}

static List *
control_urls(const AdapterConnection *conn, const AdapterLookup *lookup, const LookupKind *kind)
{
	StringInfoData query;

	initStringInfo(&query);
	append_chain(&query, "table", lookup->target);
	appendStringInfoString(&query, "^active=true^ORDERBYsys_id");
	return one_url(kind->table, query.data, "table,life_cycle_stage,life_cycle_stage_status");
}

/* A class has the pairs of its ancestors too (servicenow-api 10.13). */
static void
control_rows(Reading *reading, struct json_object *answer)
{
	struct json_object *records = json_member(answer, "result");

	for (int i = 0; i < json_count(records); i++)
	{
		struct json_object *record = json_item(records, i);
		const char		   *table = servicenow_answer_value(record, "table");
		const char		   *stage = servicenow_answer_value(record, "life_cycle_stage");
		AdapterLookupRow   *row;

		if (table == NULL || stage == NULL || class_distance(reading->lookup->target, table) < 0)
			continue;
		row = add_row(reading);
		row->key = "";
		row->external_id = json_to_server(stage);
		row->external_table = json_to_server(table);
		row->label = server_text(servicenow_answer_value(record, "life_cycle_stage_status"));
	}
}

/* ------------------------------------------------------------------ columns */

/* The Meta API needs no right on the dictionary, but knows CI classes only (servicenow-api 4, 12). */
static List *
column_urls(const AdapterConnection *conn, const AdapterLookup *lookup, const LookupKind *kind)
{
	StringInfoData text;

	initStringInfo(&text);
	if (is_ci_class(lookup->target))
	{
		appendStringInfoString(&text, "/api/now/cmdb/meta/");
		servicenow_query_encode(&text, lookup->target);
		return list_make1(text.data);
	}
	append_chain(&text, "name", lookup->target);
	appendStringInfoString(&text, "^elementISNOTEMPTY^ORDERBYname^ORDERBYelement");
	return one_url(kind->table, text.data, "name,element,internal_type,max_length,mandatory,read_only,reference");
}

typedef struct ColumnNames
{
	const char *type;
	const char *mandatory;
	const char *read_only;
} ColumnNames;

static void
column_row(Reading *reading, struct json_object *column, const ColumnNames *names)
{
	const char		 *element = servicenow_answer_value(column, "element");
	const char		 *mandatory = servicenow_answer_value(column, names->mandatory);
	const char		 *read_only = servicenow_answer_value(column, names->read_only);
	AdapterLookupRow *row;
	StringInfoData	  attrs;

	if (element == NULL || element[0] == '\0' || is_known(reading, "", json_to_server(element)))
		return;
	initStringInfo(&attrs);
	appendStringInfoChar(&attrs, '{');
	append_attr(&attrs, column, "max_length");
	json_append_member(&attrs, "mandatory", mandatory != NULL ? mandatory : "false");
	json_append_member(&attrs, "read_only", read_only != NULL ? read_only : "false");
	append_attr(&attrs, column, "reference");
	appendStringInfoChar(&attrs, '}');
	row = add_row(reading);
	row->key = "";
	row->external_id = json_to_server(element);
	row->external_table = json_to_server(reading->lookup->target);
	row->label = server_text(servicenow_answer_value(column, names->type));
	row->attrs = json_to_server(attrs.data);
}

/* Nearer classes first: what a class says of a column goes before its parent's word. */
static void
dictionary_rows(Reading *reading, struct json_object *records)
{
	static const ColumnNames names = {"internal_type", "mandatory", "read_only"};
	int						 distance = 0;

	for (const char *at = reading->lookup->target; at != NULL; at = parent_class(at), distance++)
	{
		for (int i = 0; i < json_count(records); i++)
		{
			const char *table = servicenow_answer_value(json_item(records, i), "name");

			if (table != NULL && strcmp(table, at) == 0)
				column_row(reading, json_item(records, i), &names);
		}
	}
}

static void
column_rows(Reading *reading, struct json_object *answer)
{
	static const ColumnNames names = {"type", "is_mandatory", "is_read_only"};
	struct json_object		*attributes = json_path(answer, "result.attributes");

	if (!is_ci_class(reading->lookup->target))
	{
		dictionary_rows(reading, json_member(answer, "result"));
		return;
	}
	for (int i = 0; i < json_count(attributes); i++)
		column_row(reading, json_item(attributes, i), &names);
}

/* -------------------------------------------------- records, relationships */

static List *
id_url(List *urls, const AdapterLookup *lookup, const LookupKind *kind, const char *column, StringInfo ids)
{
	StringInfoData query;

	if (ids->len == 0)
		return urls;
	initStringInfo(&query);
	if (kind->filter != NULL)
		appendStringInfo(&query, "%s^", kind->filter);
	appendStringInfo(&query, "%sIN%s^ORDERBYsys_id", column, ids->data);
	resetStringInfo(ids);
	return lappend(urls,
				   servicenow_query_list_url(table_of(lookup, kind), query.data, fields_of(lookup, kind), ROW_LIMIT));
}

/* Lists of ids, of records or of what a column refers to; what is no id cannot be one there. */
static List *
record_urls(const AdapterConnection *conn, const AdapterLookup *lookup, const LookupKind *kind)
{
	List		  *urls = NIL;
	StringInfoData ids;

	initStringInfo(&ids);
	for (int c = 0; c < 2 && kind->keys[c] != NULL; c++)
	{
		for (int i = 0; i < lookup->nkeys; i++)
		{
			if (!servicenow_query_is_sys_id(lookup->keys[i]))
				continue;
			appendStringInfo(&ids, "%s%s", ids.len > 0 ? "," : "", lookup->keys[i]);
			if (ids.len > QUERY_BYTES - 100)
				urls = id_url(urls, lookup, kind, kind->keys[c], &ids);
		}
		urls = id_url(urls, lookup, kind, kind->keys[c], &ids);
	}
	return urls;
}

/* Splits parent/child/type; parts that are missing are "". False if one is no id. */
static bool
split_relation(const char *key, char part[3][33])
{
	memset(part, 0, 3 * 33);
	for (int i = 0; i < 3; i++)
	{
		size_t length = strcspn(key, "/");

		if (length != 32)
			return false;
		strlcpy(part[i], key, 33);
		if (!servicenow_query_is_sys_id(part[i]))
			return false;
		key += length;
		if (*key == '\0')
			return i == 0 || i == 2;
		key++;
	}
	return false;
}

/* Whole relationships as alternatives, parents alone as a list. */
static List *
relation_urls(const AdapterConnection *conn, const AdapterLookup *lookup, const LookupKind *kind)
{
	List		  *urls = NIL;
	StringInfoData parents;
	StringInfoData query;

	initStringInfo(&parents);
	initStringInfo(&query);
	for (int i = 0; i < lookup->nkeys; i++)
	{
		char part[3][33];

		if (!split_relation(lookup->keys[i], part))
			continue;
		if (part[1][0] == '\0')
		{
			appendStringInfo(&parents, "%s%s", parents.len > 0 ? "," : "", part[0]);
			if (parents.len > QUERY_BYTES / 6)
				urls = id_url(urls, lookup, kind, "parent", &parents);
			continue;
		}
		appendStringInfo(&query, "%sparent=%s^child=%s^type=%s", query.len > 0 ? "^NQ" : "", part[0], part[1], part[2]);
		if (query.len > QUERY_BYTES - 200)
		{
			urls = lappend(urls, keyed_url(conn, lookup, kind, query.data));
			resetStringInfo(&query);
		}
	}
	if (query.len > 0)
		urls = lappend(urls, keyed_url(conn, lookup, kind, query.data));
	return id_url(urls, lookup, kind, "parent", &parents);
}

static bool
is_relation(struct json_object *record, char part[3][33])
{
	static const char *const columns[] = {"parent", "child", "type"};

	for (int i = 0; i < 3; i++)
	{
		const char *value = servicenow_answer_value(record, columns[i]);

		if (part[i][0] != '\0' && (value == NULL || pg_strcasecmp(value, part[i]) != 0))
			return false;
	}
	return true;
}

static void
relation_rows(Reading *reading, struct json_object *answer)
{
	struct json_object *records = json_member(answer, "result");

	for (int i = 0; i < json_count(records); i++)
	{
		struct json_object *record = json_item(records, i);
		int					k = first_key(reading, record, "parent");

		for (; k >= 0; k = reading->next_key[k])
		{
			char part[3][33];

			if (split_relation(reading->lookup->keys[k], part) && is_relation(record, part))
				keyed_row(reading, record, reading->lookup->keys[k]);
		}
	}
}

/* --------------------------------------------------------------------- pages */

/* The rows of a table behind the id that was seen last: a page does not move when the table does (servicenow-api 2.6). */
static List *
page_urls(const AdapterConnection *conn, const AdapterLookup *lookup, const LookupKind *kind)
{
	StringInfoData query;

	if (lookup->nkeys != 1 || (lookup->keys[0][0] != '\0' && !servicenow_query_is_sys_id(lookup->keys[0])))
		return NIL;
	initStringInfo(&query);
	if (lookup->keys[0][0] != '\0')
		appendStringInfo(&query, "sys_id>%s^", lookup->keys[0]);
	appendStringInfoString(&query, "ORDERBYsys_id");
	return list_make1(servicenow_query_list_url(lookup->target, query.data, fields_of(lookup, kind), PAGE_ROWS));
}

/* Rows that are not behind the last id are no answer: the condition was not understood. */
static void
page_rows(Reading *reading, struct json_object *answer)
{
	const char		   *behind = reading->lookup->keys[0];
	struct json_object *records = json_member(answer, "result");

	for (int i = 0; i < json_count(records); i++)
	{
		const char *sys_id = servicenow_answer_value(json_item(records, i), "sys_id");

		if (sys_id == NULL || pg_strcasecmp(sys_id, behind) <= 0)
			reading->unusable = true;
		else
			keyed_row(reading, json_item(records, i), behind);
	}
}

/* ------------------------------------------------------------------- changes */

/*
 * What was changed since, page by page in the order of ids.  A time is said as
 * how long ago it is: neither clocks nor time zones have to agree for that, and
 * a literal would be read in the time zone of the user (servicenow-api 2.5).
 */
enum
{
	CHANGES_ID,		/* of the last row of the page before */
	CHANGES_SINCE,	/* as in "@minute@ago@15"; empty: from the beginning */
	CHANGES_LIMIT,	/* rows of a page */
	CHANGES_OFFSET, /* behind rows that are counted and not shown */
	CHANGES_FILTER, /* a condition that all rows meet, empty: none */
	CHANGES_KEYS
};

static List *
changes_urls(const AdapterConnection *conn, const AdapterLookup *lookup, const LookupKind *kind)
{
	const char	 **keys = lookup->keys;
	int			   limit;
	StringInfoData query;

	if (lookup->nkeys != CHANGES_KEYS || (keys[CHANGES_ID][0] != '\0' && !servicenow_query_is_sys_id(keys[CHANGES_ID])))
		return NIL;
	initStringInfo(&query);
	if (keys[CHANGES_FILTER][0] != '\0')
		appendStringInfo(&query, "%s^", keys[CHANGES_FILTER]);
	if (keys[CHANGES_SINCE][0] != '\0')
		appendStringInfo(&query, "sys_updated_onRELATIVEGE%s^", keys[CHANGES_SINCE]);
	if (keys[CHANGES_ID][0] != '\0')
		appendStringInfo(&query, "sys_id>%s^", keys[CHANGES_ID]);
	appendStringInfoString(&query, "ORDERBYsys_id");
	limit = Min(Max(atoi(keys[CHANGES_LIMIT]), 1), PAGE_ROWS);
	return list_make1(psprintf("%s&sysparm_offset=%d",
							   servicenow_query_list_url(lookup->target, query.data, fields_of(lookup, kind), limit),
							   Max(atoi(keys[CHANGES_OFFSET]), 0)));
}

/* ----------------------------------------------------------------- instance */

static List *
instance_urls(const AdapterConnection *conn, const AdapterLookup *lookup, const LookupKind *kind)
{
	return one_url(kind->table,
				   "nameINinstance_name,glide.war,glide.buildtag.last,glide.rest.choice.allow_non_existing_value,"
				   "glide.invalid_query.returns_no_rows,glide.required.attribute.enabled,"
				   "glide.identification_engine.skip_sys_object_source_matching^ORDERBYname",
				   "name,value");
}

/* One row whatever was read: the instance's name as label, all as attributes. */
static void
instance_rows(Reading *reading, struct json_object *answer)
{
	struct json_object *records = json_member(answer, "result");
	AdapterLookupRow   *row;
	StringInfoData		attrs;

	if (json_count(records) == 0)
		return;
	row = add_row(reading);
	row->key = "";
	initStringInfo(&attrs);
	appendStringInfoChar(&attrs, '{');
	for (int i = 0; i < json_count(records); i++)
	{
		const char *name = servicenow_answer_value(json_item(records, i), "name");
		const char *value = servicenow_answer_value(json_item(records, i), "value");

		if (name == NULL || value == NULL)
			continue;
		json_append_member(&attrs, name, value);
		if (strcmp(name, "instance_name") == 0)
			row->label = server_text(value);
	}
	appendStringInfoChar(&attrs, '}');
	row->attrs = json_to_server(attrs.data);
}

/* -------------------------------------------------------------------- roles */

static List *
role_urls(const AdapterConnection *conn, const AdapterLookup *lookup, const LookupKind *kind)
{
	return one_url(kind->table, "user=javascript:gs.getUserID()^ORDERBYsys_id", "sys_id,role.name,user.user_name");
}

/* The caller's own roles, inherited ones included (servicenow-api 12); no row: they may not be read. */
static void
role_rows(Reading *reading, struct json_object *answer)
{
	struct json_object *records = json_member(answer, "result");

	for (int i = 0; i < json_count(records); i++)
	{
		const char		 *name = servicenow_answer_value(json_item(records, i), "role.name");
		AdapterLookupRow *row;

		if (name == NULL || name[0] == '\0')
			continue;
		row = add_row(reading);
		row->key = "";
		row->label = json_to_server(name);
		row->attrs = attrs_of(reading, json_item(records, i));
	}
}

/* -------------------------------------------------------------------- kinds */

/* Rows that the integration user did not make, or not alone: what others have put into relation with a record. */
#define OTHERS "sys_created_by!=javascript:gs.getUserName()^ORsys_updated_by!=javascript:gs.getUserName()"

/* The others' rows of a table that refer to a record by one of its columns. */
#define OTHERS_OF(name, from, shown, ...)                                                                              \
	{                                                                                                                  \
		.kind = name, .optional = true, .urls = record_urls, .rows = keyed_rows, .table = from, .keys = {__VA_ARGS__}, \
		.filter = OTHERS, .id = "sys_id", .label = shown                                                               \
	}

static const LookupKind kinds[] = {
	{.kind = "user",
	 .urls = keyed_urls,
	 .rows = keyed_rows,
	 .table = "sys_user",
	 .keys = {"email", "user_name"},
	 .check = "active",
	 .check_value = "true",
	 .id = "sys_id",
	 .label = "name",
	 .attrs = {"email", "user_name"}},
	{.kind = "group",
	 .urls = keyed_urls,
	 .rows = keyed_rows,
	 .table = "sys_user_group",
	 .keys = {"name"},
	 .id = "sys_id",
	 .label = "name"},
	{.kind = "company",
	 .urls = keyed_urls,
	 .rows = keyed_rows,
	 .table = "core_company",
	 .keys = {"name"},
	 .order = "ORDERBYsys_created_on^ORDERBYsys_id",
	 .id = "sys_id",
	 .label = "name",
	 .attrs = {"vendor", "manufacturer"}},
	{.kind = "contract_model",
	 .urls = keyed_urls,
	 .rows = keyed_rows,
	 .table = "cmdb_contract_product_model",
	 .keys = {"name"},
	 .id = "sys_id",
	 .label = "name"},
	{.kind = "relation_type",
	 .urls = keyed_urls,
	 .rows = keyed_rows,
	 .table = "cmdb_rel_type",
	 .keys = {"name"},
	 .id = "sys_id",
	 .label = "name"},
	{.kind = "choice",
	 .optional = true,
	 .urls = choice_urls,
	 .rows = choice_rows,
	 .table = "sys_choice",
	 .attrs = {"sequence", "dependent_value"}},
	{.kind = "life_cycle",
	 .optional = true,
	 .urls = keyed_urls,
	 .rows = keyed_rows,
	 .keys = {"name"},
	 .id = "sys_id",
	 .label = "name"},
	{.kind = "life_cycle_control",
	 .optional = true,
	 .urls = control_urls,
	 .rows = control_rows,
	 .table = "life_cycle_control"},
	{.kind = "column", .optional = true, .urls = column_urls, .rows = column_rows, .table = "sys_dictionary"},
	{.kind = "native_key",
	 .optional = true,
	 .urls = keyed_urls,
	 .rows = keyed_rows,
	 .table = "sys_object_source",
	 .keys = {"id"},
	 .check = "name",
	 .id = "target_sys_id",
	 .class_column = "target_table"},
	{.kind = "correlation",
	 .urls = keyed_urls,
	 .rows = keyed_rows,
	 .keys = {"correlation_id"},
	 .id = "sys_id",
	 .class_column = "sys_class_name",
	 .label = "name",
	 .attrs = {"correlation_id"}},
	{.kind = "name",
	 .urls = keyed_urls,
	 .rows = keyed_rows,
	 .keys = {"name"},
	 .id = "sys_id",
	 .class_column = "sys_class_name",
	 .label = "name",
	 .attrs = {"correlation_id"}},
	{.kind = "model",
	 .urls = keyed_urls,
	 .rows = keyed_rows,
	 .keys = {"name"},
	 .id = "sys_id",
	 .class_column = "sys_class_name",
	 .label = "name",
	 .attrs = {"version", "manufacturer"}},
	{.kind = "contract",
	 .urls = keyed_urls,
	 .rows = keyed_rows,
	 .table = "ast_contract",
	 .keys = {"vendor_contract"},
	 .id = "sys_id",
	 .class_column = "sys_class_name",
	 .label = "short_description",
	 .attrs = {"vendor", "starts", "ends", "short_description"}},
	{.kind = "record",
	 .urls = record_urls,
	 .rows = keyed_rows,
	 .keys = {"sys_id"},
	 .id = "sys_id",
	 .class_column = "sys_class_name",
	 .label = "name"},
	{.kind = "page",
	 .optional = true,
	 .urls = page_urls,
	 .rows = page_rows,
	 .id = "sys_id",
	 .class_column = "sys_class_name",
	 .label = "name"},
	{.kind = "changes",
	 .optional = true,
	 .urls = changes_urls,
	 .rows = page_rows,
	 .id = "sys_id",
	 .class_column = "sys_class_name",
	 .label = "name",
	 .attrs = {"sys_updated_on", "sys_updated_by", "sys_mod_count"}},
	{.kind = "relation",
	 .urls = relation_urls,
	 .rows = relation_rows,
	 .table = "cmdb_rel_ci",
	 .id = "sys_id",
	 .attrs = {"parent", "child", "type"}},
	{.kind = "others_parent",
	 .urls = record_urls,
	 .rows = keyed_rows,
	 .table = "cmdb_rel_ci",
	 .keys = {"parent"},
	 .filter = OTHERS,
	 .id = "sys_id",
	 .label = "child.name",
	 .attrs = {"parent", "child"}},
	{.kind = "others_child",
	 .urls = record_urls,
	 .rows = keyed_rows,
	 .table = "cmdb_rel_ci",
	 .keys = {"child"},
	 .filter = OTHERS,
	 .id = "sys_id",
	 .label = "parent.name",
	 .attrs = {"parent", "child"}},
	{.kind = "others_contract",
	 .optional = true,
	 .urls = record_urls,
	 .rows = keyed_rows,
	 .table = "contract_rel_ci",
	 .keys = {"contract"},
	 .filter = OTHERS,
	 .id = "sys_id",
	 .label = "ci_item.name",
	 .attrs = {"contract", "ci_item"}},
	{.kind = "others_covered",
	 .optional = true,
	 .urls = record_urls,
	 .rows = keyed_rows,
	 .table = "contract_rel_ci",
	 .keys = {"ci_item"},
	 .filter = OTHERS,
	 .id = "sys_id",
	 .label = "contract.short_description",
	 .attrs = {"contract", "ci_item"}},
	OTHERS_OF("others_vendor", "cmdb_ci", "name", "vendor"),
	OTHERS_OF("others_maker", "cmdb_ci", "name", "manufacturer"),
	OTHERS_OF("others_product", "cmdb_model", "name", "manufacturer"),
	OTHERS_OF("others_supplier", "ast_contract", "short_description", "vendor"),
	OTHERS_OF("others_model", "cmdb_ci", "name", "model_id"),
	OTHERS_OF("others_owner", "cmdb_ci", "name", "owned_by", "managed_by"),
	OTHERS_OF("others_keeper", "cmdb_ci", "name", "assigned_to", "supported_by"),
	OTHERS_OF("others_member", "sys_user_grmember", "group.name", "user"),
	OTHERS_OF("others_task", "task", "number", "opened_by", "assigned_to"),
	{.kind = "role",
	 .optional = true,
	 .urls = role_urls,
	 .rows = role_rows,
	 .table = "sys_user_has_role",
	 .attrs = {"user.user_name"}},
	{.kind = "data_source",
	 .optional = true,
	 .urls = keyed_urls,
	 .rows = keyed_rows,
	 .table = "sys_choice",
	 .keys = {"value"},
	 .filter = "name=cmdb_ci^inactive=false",
	 .check = "element",
	 .check_value = "discovery_source",
	 .id = "sys_id",
	 .label = "label"},
	{.kind = "instance", .optional = true, .urls = instance_urls, .rows = instance_rows, .table = "sys_properties"},
};

static const LookupKind *
find_kind(const char *kind)
{
	for (int i = 0; i < (int) lengthof(kinds); i++)
	{
		if (strcmp(kinds[i].kind, kind) == 0)
			return &kinds[i];
	}
	return NULL;
}

/* Is there a table to ask, and a class where one is needed? */
static bool
has_table(const AdapterLookup *lookup, const LookupKind *kind)
{
	bool by_class =
		kind->table == NULL || kind->urls == choice_urls || kind->urls == control_urls || kind->urls == column_urls;

	return !by_class || (lookup->target != NULL && lookup->target[0] != '\0');
}

static List *
lookup_urls(const AdapterConnection *conn, const AdapterLookup *lookup)
{
	const LookupKind *kind = find_kind(lookup->kind);

	if (kind == NULL || !has_table(lookup, kind))
		return NIL;
	return kind->urls(conn, lookup, kind);
}

/*
 * What a look-up adds to the size of the answer, in keys of the plain kinds:
 * rows with all that we publish are wide ones.
 */
static int
weight_of(const AdapterLookup *lookup)
{
	bool wide = strcmp(lookup->kind, "record") == 0 || lookup->nfields > WIDE_FIELDS;

	if (strcmp(lookup->kind, "page") == 0 || strcmp(lookup->kind, "changes") == 0)
		return PLAIN_KEYS / PAGES_PER_REQUEST;
	return wide ? lookup->nkeys * PLAIN_KEYS / WIDE_KEYS : lookup->nkeys;
}

static bool
is_dry_run(const AdapterLookup *lookup)
{
	return strcmp(lookup->kind, "dry_run") == 0;
}

/* Fills the request with as many look-ups as one Batch should hold and one answer should bring, at least one. */
void
servicenow_lookup_build(const AdapterConnection *conn, const AdapterLookup *lookups, int nlookups,
						AdapterRequest *request)
{
	int				weight = 0;
	ServicenowBatch batch;

	if (is_dry_run(&lookups[0]))
	{
		servicenow_dryrun_build(conn, &lookups[0], request);
		return;
	}
	servicenow_batch_begin(&batch);
	for (request->nused = 0; request->nused < nlookups; request->nused++)
	{
		List	 *urls = lookup_urls(conn, &lookups[request->nused]);
		ListCell *cell;

		if (is_dry_run(&lookups[request->nused]))
			break;
		weight += weight_of(&lookups[request->nused]);
		if (batch.subs > 0 && (batch.subs + list_length(urls) > SERVICENOW_BATCH_SUBS || weight > PLAIN_KEYS))
			break;
		foreach (cell, urls)
			servicenow_batch_add(&batch, "GET", lfirst(cell), NULL);
	}
	if (batch.subs == 0)
		servicenow_request_nothing(request);
	else
		servicenow_batch_end(&batch, request);
	request->writes = false;
}

/* ---------------------------------------------------------------- reading */

static void
set_outcome(Reading *reading, OutcomeKind kind, const char *error_class, const char *message)
{
	reading->result->kinds[reading->number] = kind;
	reading->result->error_classes[reading->number] = error_class;
	reading->result->messages[reading->number] = message;
	if (kind != OUTCOME_DONE)
		reading->result->nrows = reading->first_row;
}

/* The same by the table of outcomes; message NULL: in its words. */
static void
set_rule(Reading *reading, const char *layer, const char *error_class, const char *message)
{
	const AdapterRule *rule = servicenow_rule(layer, error_class);

	set_outcome(reading, adapter_rule_kind(rule), error_class, message != NULL ? message : rule->reason);
}

/* A refusal; an empty list may come as 404 (servicenow-api 2.3). */
static void
read_refusal(Reading *reading, const ServicenowAnswer *answer, int status)
{
	const char *envelope = servicenow_answer_envelope(answer->root);

	if (status == 404 && envelope != NULL && strstr(envelope, "Records matching query not found") != NULL)
		return;
	set_outcome(reading, reading->kind->optional ? OUTCOME_DONE : adapter_rule_kind(answer->rule), answer->error_class,
				adapter_text("look-up of %s %s: %s", reading->lookup->kind, table_of(reading->lookup, reading->kind),
							 answer->message));
}

static bool
is_others(const LookupKind *kind)
{
	return kind->filter != NULL && strcmp(kind->filter, OTHERS) == 0;
}

/* Rows that are counted and not shown are there all the same: absence is not proved then, nor where nobody counted. */
static void
check_count(Reading *reading, const ServicenowSub *sub, int rows)
{
	bool many = rows >= ROW_LIMIT || sub->total > ROW_LIMIT;

	/* That others have so many is an answer; of whom, is not shown. */
	if (many && is_others(reading->kind))
		reading->result->messages[reading->number] =
			adapter_text("more than %d rows of %s are not ours", ROW_LIMIT, table_of(reading->lookup, reading->kind));
	else if (many)
		set_rule(reading, "item", "TOO_MANY_ROWS",
				 adapter_text("look-up of %s: more than %d rows answer", reading->lookup->kind, ROW_LIMIT));
	else if (sub->total > rows)
		reading->result->messages[reading->number] =
			adapter_text("%d of %d rows of %s are hidden from the user by access rules", (int) (sub->total - rows),
						 (int) sub->total, table_of(reading->lookup, reading->kind));
	else if (sub->total < 0 && (is_others(reading->kind) || strcmp(reading->kind->kind, "record") == 0))
		reading->result->messages[reading->number] = adapter_text(
			"the answer does not tell how many rows of %s there are", table_of(reading->lookup, reading->kind));
}

/*
 * How many rows there are from here on, as a row without an id whose label is
 * the number: only that proves that a page was the last, and that none is hidden.
 */
static void
page_total(Reading *reading, const ServicenowSub *sub)
{
	AdapterLookupRow *row;

	if (sub->total < 0)
	{
		set_rule(reading, "platform", "BAD_RESPONSE", "the answer does not tell how many rows there are");
		return;
	}
	row = add_row(reading);
	row->key = json_to_server(reading->lookup->keys[0]);
	row->label = psprintf(INT64_FORMAT, sub->total);
}

/* The Meta API answers with one object, everything else with a list. */
static bool
is_list_expected(const Reading *reading)
{
	return reading->kind->urls != column_urls || !is_ci_class(reading->lookup->target);
}

/* Returns whether the look-up can go on with its next part. */
static bool
read_part(Reading *reading, const ServicenowSub *sub)
{
	ServicenowAnswer	answer;
	struct json_object *rows;

	servicenow_answer_record(&sub->reply, "record", true, &answer);
	if (answer.verdict != RESPONSE_READABLE)
		set_outcome(reading, adapter_rule_kind(answer.rule), answer.error_class, answer.message);
	else if (answer.error_class != NULL)
		read_refusal(reading, &answer, sub->reply.status);
	else if (!is_list_expected(reading) ? !json_is_object(json_member(answer.root, "result"))
										: !json_is_array(json_member(answer.root, "result")))
		set_rule(reading, "platform", "BAD_RESPONSE", "the answer has no result of the form that was asked for");
	else
	{
		rows = json_member(answer.root, "result");
		reading->kind->rows(reading, answer.root);
		if (reading->unusable)
			set_rule(reading, "platform", "BAD_RESPONSE", "a row of the answer has no usable id");
		else if (reading->kind->rows == page_rows)
			page_total(reading, sub);
		else if (json_is_array(rows))
			check_count(reading, sub, json_count(rows));
	}
	return reading->result->kinds[reading->number] == OUTCOME_DONE;
}

/*
 * A look-up is answered whole or not at all.  One that comes first and is not
 * finished in the time of a Batch will not be next time either: that counts as
 * an attempt.
 */
static bool
is_served(Reading *reading, const ServicenowSub *subs, int nsubs)
{
	for (int i = 0; i < nsubs; i++)
	{
		if (subs[i].state == SUB_SERVICED)
			continue;
		if (subs[i].state == SUB_MISSING)
			set_rule(reading, "batch", "NO_ANSWER", NULL);
		else if (reading->number == 0)
			set_rule(reading, "batch", "UNSERVICED", NULL);
		else
			set_outcome(reading, OUTCOME_RELEASE, NULL, NULL);
		return false;
	}
	return true;
}

static void
read_one(Reading *reading, const ServicenowSub *subs, int nsubs)
{
	set_outcome(reading, OUTCOME_DONE, NULL, NULL);
	reading->kind = find_kind(reading->lookup->kind);
	if (reading->kind == NULL)
		set_rule(reading, "item", "UNKNOWN_KIND",
				 adapter_text("there is no look-up of kind \"%s\"", reading->lookup->kind));
	else if (!has_table(reading->lookup, reading->kind))
		set_rule(reading, "item", "NO_TARGET", NULL);
	else if (is_served(reading, subs, nsubs))
	{
		for (int i = 0; i < nsubs && read_part(reading, &subs[i]); i++)
			;
	}
}

static void
read_all(const AdapterConnection *conn, const AdapterLookup *lookups, const int *parts, int nlookups,
		 const ServicenowSub *subs, AdapterLookupResult *result)
{
	Reading reading = {.conn = conn, .result = result};
	int		first = 0;

	for (int i = 0; i < nlookups; i++)
	{
		reading.lookup = &lookups[i];
		reading.number = i;
		reading.first_row = result->nrows;
		reading.first_key = NULL;
		read_one(&reading, subs + first, parts[i]);
		first += parts[i];
	}
}

/* Outcomes and rows of all look-ups that travelled; the verdict is about the Batch. */
ResponseVerdict
servicenow_lookup_read(const AdapterConnection *conn, const AdapterLookup *lookups, const AdapterRequest *request,
					   const AdapterResponse *response, AdapterLookupResult *result, AdapterReport *report)
{
	int				 n = request->nused;
	int				*parts = palloc(sizeof(int) * n);
	int				 total = 0;
	int				 serviced;
	ServicenowAnswer answer = {.verdict = RESPONSE_READABLE};

	memset(result, 0, sizeof(*result));
	result->kinds = palloc0(sizeof(OutcomeKind) * n);
	result->error_classes = palloc0(sizeof(char *) * n);
	result->messages = palloc0(sizeof(char *) * n);
	if (is_dry_run(&lookups[0]))
		return servicenow_dryrun_read(conn, &lookups[0], response, result, report);
	for (int i = 0; i < n; i++)
	{
		parts[i] = list_length(lookup_urls(conn, &lookups[i]));
		total += parts[i];
	}
	if (total > 0)
		servicenow_answer_whole(response, "the Batch API", n, &answer);
	report->error_class = answer.error_class;
	report->message = answer.message;
	if (answer.verdict == RESPONSE_READABLE)
		read_all(conn, lookups, parts, n, servicenow_batch_open(answer.root, total, &serviced, report), result);
	return answer.verdict;
}
