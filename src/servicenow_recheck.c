/*
 * servicenow_recheck.c
 *	  A creation whose answer was never seen: is the record there?
 *
 * The Table API never finds what it made (servicenow-api 0.8), so the record
 * is looked for by the key that it carries itself.  Looks only; whether it is
 * created again is decided elsewhere.
 *
 * Copyright (c) 2026, the pgsync_itsm authors; PostgreSQL licence
 */
#include "postgres.h"

#include "servicenow.h"

#define RECHECK_LIMIT 500

/* Columns that make a record the one we meant; all must agree. */
typedef struct RecordKey
{
	const char *entity_type;
	const char *fields[3];
} RecordKey;

static const RecordKey keys[] = {
	{"company", {"name"}},
	{"contact", {"email"}},
	{"software_product", {"name", "version", "manufacturer"}},
	{"contract", {"vendor_contract", "vendor"}},
	{"covers", {"contract", "ci_item"}},
};
static const RecordKey relation_key = {NULL, {"parent", "child", "type"}};

/* The key of a record with its values; values[0] is NULL if the record has none. */
typedef struct RecordIdentity
{
	const char *fields[3];
	const char *values[3];
} RecordIdentity;

static const RecordKey *
find_key(const char *entity_type)
{
	for (int i = 0; i < (int) lengthof(keys); i++)
	{
		if (strcmp(keys[i].entity_type, entity_type) == 0)
			return &keys[i];
	}
	return &relation_key;
}

static const char *
key_value(const AdapterItem *item, const ServicenowPayload *payload, const char *field)
{
	const char *value;

	if (strcmp(field, "parent") == 0 || strcmp(field, "contract") == 0)
		return item->parent_external_id;
	if (strcmp(field, "child") == 0 || strcmp(field, "ci_item") == 0)
		return item->child_external_id;
	if (strcmp(field, "type") == 0)
		return item->rel_type_id;
	value = servicenow_payload_value(payload, field);
	return value != NULL ? value : "";
}

static bool
is_blank(const char *text)
{
	return text == NULL || text[0] == '\0';
}

static void
read_identity(const AdapterItem *item, const ServicenowPayload *payload, RecordIdentity *identity)
{
	const RecordKey *key = find_key(item->entity_type);

	memset(identity, 0, sizeof(*identity));
	for (int i = 0; i < 3 && key->fields[i] != NULL; i++)
	{
		identity->fields[i] = key->fields[i];
		identity->values[i] = key_value(item, payload, key->fields[i]);
	}
	/* a user without an address is known by the user name */
	if (is_blank(identity->values[0]) && strcmp(item->entity_type, "contact") == 0)
	{
		identity->fields[0] = "user_name";
		identity->values[0] = key_value(item, payload, "user_name");
	}
	if (is_blank(identity->values[0]))
		identity->values[0] = NULL;
}

static bool
is_key_field(const RecordIdentity *identity, const char *name)
{
	for (int i = 0; i < 3 && identity->fields[i] != NULL; i++)
	{
		if (strcmp(identity->fields[i], name) == 0)
			return true;
	}
	return false;
}

/* URL of the list of records that may be the one; NULL if it carries no key to look for. */
char *
servicenow_recheck_url(const AdapterConnection *conn, const AdapterItem *item, const ServicenowPayload *payload)
{
	RecordIdentity identity;
	StringInfoData query;
	StringInfoData fields;

	read_identity(item, payload, &identity);
	if (identity.values[0] == NULL)
		return NULL;
	initStringInfo(&query);
	initStringInfo(&fields);
	appendStringInfoString(&fields, "sys_id,number,sys_class_name,sys_created_on");
	for (int i = 0; i < 3 && identity.fields[i] != NULL; i++)
	{
		int before = query.len;

		if (before > 0)
			appendStringInfoChar(&query, '^');
		if (!servicenow_query_beginning(&query, identity.fields[i], identity.values[i]))
			query.len = before;
		appendStringInfo(&fields, ",%s", identity.fields[i]);
	}
	query.data[query.len] = '\0';
	if (query.len == 0)
		return NULL;
	appendStringInfoString(&query, "^ORDERBYsys_created_on");
	for (int i = 0; i < payload->nfields; i++)
	{
		if (!is_key_field(&identity, payload->fields[i].name))
			appendStringInfo(&fields, ",%s", payload->fields[i].name);
	}
	return servicenow_query_list_url(servicenow_payload_table(conn, item), query.data, fields.data, RECHECK_LIMIT);
}

/* The platform drops what it does not understand in a query: only rows that agree are answers. */
static bool
is_the_one(const RecordIdentity *identity, struct json_object *row)
{
	for (int i = 0; i < 3 && identity->fields[i] != NULL; i++)
	{
		const char *got = servicenow_answer_value(row, identity->fields[i]);

		if (got == NULL ||
			(!servicenow_query_same(got, identity->values[i]) && !servicenow_query_was_cut(got, identity->values[i])))
			return false;
	}
	return true;
}

static void
found(const AdapterConnection *conn, const AdapterItem *item, const ServicenowPayload *payload, struct json_object *row,
	  int matches, AdapterOutcome *outcome)
{
	const char *class_name = servicenow_answer_value(row, "sys_class_name");
	const char *number = servicenow_answer_value(row, "number");

	outcome->kind = OUTCOME_DONE;
	outcome->operation = "create";
	outcome->external_id = json_to_server(servicenow_answer_value(row, "sys_id"));
	outcome->external_table = servicenow_answer_table(class_name, servicenow_payload_table(conn, item));
	if (number != NULL && number[0] != '\0')
		outcome->external_number = json_to_server(number);
	outcome->message = matches == 1 ? "found: the first attempt had arrived"
									: psprintf("found %d times; the oldest is taken for the one we made", matches);
	outcome->excerpt = adapter_excerpt(row);
	outcome->not_taken = servicenow_answer_not_taken(payload, row, &outcome->message);
}

/*
 * Rows that the platform counts and does not show may be ours: the user may
 * create them and not read them.  Another attempt could make a second one.
 */
static void
not_found(const AdapterConnection *conn, const AdapterItem *item, int rows, int64 total, AdapterOutcome *outcome)
{
	if (rows >= RECHECK_LIMIT)
		servicenow_answer_rule(outcome, "item", "TOO_MANY_ROWS",
							   "too many records are like it to tell whether it is there");
	else if (total > rows)
		servicenow_answer_rule(
			outcome, "item", "HIDDEN",
			adapter_text("it may be there, but the user may not read all of %s", servicenow_payload_table(conn, item)));
	else
		outcome->kind = OUTCOME_RECHECKED;
}

static void
read_rows(const AdapterConnection *conn, const AdapterItem *item, const ServicenowPayload *payload,
		  struct json_object *rows, int64 total, AdapterOutcome *outcome)
{
	RecordIdentity		identity;
	struct json_object *oldest = NULL;
	int					matches = 0;

	read_identity(item, payload, &identity);
	for (int i = 0; i < json_count(rows); i++)
	{
		struct json_object *row = json_item(rows, i);

		if (!is_the_one(&identity, row) || !servicenow_query_may_be_id(servicenow_answer_value(row, "sys_id")))
			continue;
		if (oldest == NULL)
			oldest = row;
		matches++;
	}
	if (oldest != NULL)
		found(conn, item, payload, oldest, matches, outcome);
	else
		not_found(conn, item, json_count(rows), total, outcome);
}

/* What a look for the record says: DONE, RECHECKED, or why nothing can be said. */
void
servicenow_recheck_read(const AdapterConnection *conn, const AdapterItem *item, const ServicenowPayload *payload,
						const ServicenowSub *sub, AdapterOutcome *outcome)
{
	ServicenowAnswer answer;

	servicenow_answer_record(&sub->reply, "record", true, &answer);
	if (answer.error_class != NULL)
		adapter_fail(outcome, adapter_rule_kind(answer.rule), answer.error_class, answer.message);
	else if (!json_is_array(json_member(answer.root, "result")))
		servicenow_answer_rule(outcome, "platform", "BAD_RESPONSE", "the answer has no list of records");
	else
		read_rows(conn, item, payload, json_member(answer.root, "result"), sub->total, outcome);
}
