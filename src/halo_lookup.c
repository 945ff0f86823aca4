/*
 * halo_lookup.c
 *	  Look-ups as lists that are read page by page, or as single records.
 *
 * There is no question about many keys at once, and a filter may not be exact, so
 * a list is read and compared here.  Look-ups of one list that follow each other
 * share the reading of it.  A list that has more pages than there are keys is
 * asked key by key, where it can be searched.
 *
 * Copyright (c) 2026, the pgsync_itsm authors; PostgreSQL licence
 */
#include "postgres.h"

#include <ctype.h>

#include <json-c/json.h>

#include "halo.h"

/* Look-ups in one transfer, at the most. */
#define MAX_SHARED 20

/* What a row is compared by. */
typedef enum MatchBy
{
	BY_NAME,  /* as the platform compares names */
	BY_TAG,	  /* exactly */
	BY_EMAIL, /* of users and agents, who may be known by name, too */
	BY_FIELD, /* the list is the answer, for each key */
	BY_PAGE	  /* all of it, for those who keep a mirror */
} MatchBy;

typedef struct LookupKind
{
	const char *kind;
	const char *class_name; /* NULL: the look-up's target */
	MatchBy		by;
	const char *attrs[3]; /* fields that every answer shows */
} LookupKind;

static const LookupKind kinds[] = {
	{"company", "supplier", BY_NAME, {NULL}},
	{"user", "user", BY_EMAIL, {NULL}},
	{"agent", "agent", BY_EMAIL, {NULL}},
	{"group", "team", BY_NAME, {NULL}},
	{"contract", "supplier_contract", BY_TAG, {"supplier_id"}},
	{"correlation", NULL, BY_TAG, {"inventory_number"}},
	{"name", NULL, BY_NAME, {"inventory_number"}},
	{"choice", "status", BY_FIELD, {NULL}},
	{"page", NULL, BY_PAGE, {NULL}},
};

/* One key of one look-up, folded for comparing. */
typedef struct Key
{
	char	   *text;
	const char *key;
	int			lookup;
} Key;

typedef enum Mode
{
	MODE_PAGES,	  /* a whole list */
	MODE_SEARCH,  /* key by key */
	MODE_RECORDS, /* one record a request */
	MODE_KINDS,	  /* the lookup that holds the kinds of relations */
	MODE_UNKNOWN  /* nobody can answer it */
} Mode;

typedef struct State
{
	Mode				mode;
	const HaloResource *resource;
	int					page;
	int64				seen;
	int					nkeys;
	Key				   *keys; /* in the order of their texts; of records and searches: as they came */
	int					at;	  /* the key that is being asked for */
	bool				incomplete;
	int					nrows;
	int					room;
	AdapterLookupRow   *rows;
} State;

/* ------------------------------------------------------------------- kinds */

static const LookupKind *
find_kind(const AdapterLookup *lookup)
{
	for (int i = 0; i < (int) lengthof(kinds); i++)
	{
		if (strcmp(kinds[i].kind, lookup->kind) == 0)
			return &kinds[i];
	}
	return NULL;
}

static const HaloResource *
resource_for(const AdapterLookup *lookup)
{
	const LookupKind *kind = find_kind(lookup);

	return halo_resource(kind != NULL && kind->class_name != NULL ? kind->class_name : lookup->target);
}

static Mode
mode_of(const AdapterLookup *lookup)
{
	if (strcmp(lookup->kind, "relation_type") == 0)
		return MODE_KINDS;
	if (resource_for(lookup) == NULL)
		return MODE_UNKNOWN;
	if (strcmp(lookup->kind, "record") == 0)
		return MODE_RECORDS;
	return find_kind(lookup) != NULL ? MODE_PAGES : MODE_UNKNOWN;
}

static const char *
path_of(const AdapterConnection *conn, const HaloResource *resource)
{
	return halo_list_path(conn, resource, 1, NULL);
}

/* How many of the look-ups are answered by the list of the first. */
static int
count_shared(const AdapterConnection *conn, const AdapterLookup *lookups, int nlookups)
{
	const char *path;
	int			n = 1;

	if (mode_of(&lookups[0]) != MODE_PAGES || find_kind(&lookups[0])->by == BY_PAGE)
		return 1;
	path = path_of(conn, resource_for(&lookups[0]));
	while (n < nlookups && n < MAX_SHARED && mode_of(&lookups[n]) == MODE_PAGES &&
		   find_kind(&lookups[n])->by != BY_PAGE && strcmp(path, path_of(conn, resource_for(&lookups[n]))) == 0)
		n++;
	return n;
}

/* -------------------------------------------------------------------- keys */

static char *
folded(const char *text)
{
	char  *copy = pstrdup(text);
	size_t length = strlen(copy);

	while (length > 0 && copy[length - 1] == ' ')
		copy[--length] = '\0';
	for (char *at = copy; *at != '\0'; at++)
		*at = (char) pg_ascii_tolower((unsigned char) *at);
	return copy;
}

static int
compare_keys(const void *a, const void *b)
{
	return strcmp(((const Key *) a)->text, ((const Key *) b)->text);
}

static void
gather_keys(State *state, const AdapterLookup *lookups, int nlookups)
{
	int n = 0;

	for (int i = 0; i < nlookups; i++)
		n += lookups[i].nkeys;
	state->keys = palloc(sizeof(Key) * Max(n, 1));
	for (int i = 0; i < nlookups; i++)
	{
		for (int k = 0; k < lookups[i].nkeys; k++)
		{
			if (lookups[i].keys[k] == NULL || lookups[i].keys[k][0] == '\0')
				continue;
			state->keys[state->nkeys++] = (Key){folded(lookups[i].keys[k]), lookups[i].keys[k], i};
		}
	}
	if (state->mode == MODE_PAGES)
		qsort(state->keys, state->nkeys, sizeof(Key), compare_keys);
}

/* The first key with this text; nkeys if there is none. */
static int
first_key(const State *state, const char *text)
{
	int low = 0;
	int high = state->nkeys;

	while (low < high)
	{
		int middle = (low + high) / 2;

		if (strcmp(state->keys[middle].text, text) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

/* ---------------------------------------------------------------- rows out */

static AdapterLookupRow *
add_row(State *state)
{
	if (state->nrows == state->room)
	{
		state->room = Max(state->room * 2, 64);
		state->rows = state->rows == NULL ? palloc(sizeof(AdapterLookupRow) * state->room)
										  : repalloc(state->rows, sizeof(AdapterLookupRow) * state->room);
	}
	memset(&state->rows[state->nrows], 0, sizeof(AdapterLookupRow));
	return &state->rows[state->nrows++];
}

/* What moves from one page to the next while they are read comes twice. */
static bool
is_known(const State *state, int lookup, const char *key, const char *external_id)
{
	for (int i = state->nrows - 1; i >= 0 && i >= state->nrows - 2 * HALO_PAGE; i--)
	{
		const AdapterLookupRow *row = &state->rows[i];

		if (row->lookup == lookup && strcmp(row->external_id, external_id) == 0 && strcmp(row->key, key) == 0)
			return true;
	}
	return false;
}

static void
append_attr(StringInfo attrs, const AdapterConnection *conn, const HaloResource *resource, struct json_object *record,
			const char *field, const char *as)
{
	json_append_member(attrs, as, halo_value(conn, resource, record, field));
}

/* The fields that were asked for; a contract's vendor is called so by those who ask. */
static const char *
attrs_of(const AdapterConnection *conn, const AdapterLookup *lookup, const HaloResource *resource,
		 struct json_object *record)
{
	const LookupKind *kind = find_kind(lookup);
	StringInfoData	  attrs;

	initStringInfo(&attrs);
	appendStringInfoChar(&attrs, '{');
	for (int i = 0; kind != NULL && i < (int) lengthof(kind->attrs) && kind->attrs[i] != NULL; i++)
	{
		if (strcmp(kind->attrs[i], "inventory_number") != 0 || resource->type != NULL)
			append_attr(&attrs, conn, resource, record, kind->attrs[i],
						strcmp(kind->attrs[i], "supplier_id") == 0 ? "vendor" : kind->attrs[i]);
	}
	for (int i = 0; i < lookup->nfields; i++)
		append_attr(&attrs, conn, resource, record, lookup->fields[i], lookup->fields[i]);
	if (attrs.len == 1)
		return NULL;
	appendStringInfoChar(&attrs, '}');
	return json_to_server(attrs.data);
}

static void
put_row(State *state, const AdapterConnection *conn, const AdapterLookup *lookups, int number, const char *key,
		struct json_object *record)
{
	const HaloResource *resource = resource_for(&lookups[number]);
	int64				id = json_int(record, "id", 0);
	const char		   *external_id = halo_id(resource, id);
	const char		   *label = halo_value(conn, resource, record, resource->type ? "name" : resource->name);
	AdapterLookupRow   *row;

	if (id <= 0 || is_known(state, number, json_to_server(key), external_id))
		return;
	row = add_row(state);
	row->lookup = number;
	row->key = json_to_server(key);
	/* a choice is a value, no record */
	row->external_id = find_kind(&lookups[number]) != NULL && find_kind(&lookups[number])->by == BY_FIELD
						   ? psprintf(INT64_FORMAT, id)
						   : external_id;
	row->external_table = resource->class_name;
	row->label = json_to_server(label);
	row->attrs = attrs_of(conn, &lookups[number], resource, record);
}

/* Is the row what this key of this look-up asks for? */
static bool
matches(const AdapterConnection *conn, const AdapterLookup *lookup, const Key *key, struct json_object *record,
		const char *field)
{
	const LookupKind   *kind = find_kind(lookup);
	const HaloResource *resource = resource_for(lookup);

	if (kind->by == BY_TAG)
		return strcmp(field, resource->type != NULL ? "inventory_number" : resource->name) == 0 &&
			   strcmp(halo_value(conn, resource, record, field), key->key) == 0;
	if (kind->by == BY_EMAIL)
		return strcmp(field, "name") != 0 || strchr(key->key, '@') == NULL;
	return strcmp(field, resource->type != NULL ? "name" : resource->name) == 0;
}

/* Gives a row to all keys that are the text of one of its fields. */
static void
offer_field(State *state, const AdapterConnection *conn, const AdapterLookup *lookups, struct json_object *record,
			const char *field)
{
	const char *value = halo_value(conn, state->resource, record, field);
	char	   *text;

	if (value[0] == '\0')
		return;
	text = folded(value);
	for (int i = first_key(state, text); i < state->nkeys && strcmp(state->keys[i].text, text) == 0; i++)
	{
		if (matches(conn, &lookups[state->keys[i].lookup], &state->keys[i], record, field))
			put_row(state, conn, lookups, state->keys[i].lookup, state->keys[i].key, record);
	}
}

static const char *const offered[] = {"inventory_number", "name", "ref", "emailaddress", "email"};

static void
offer_row(State *state, const AdapterConnection *conn, const AdapterLookup *lookups, struct json_object *record)
{
	const LookupKind *kind = find_kind(&lookups[0]);

	if (kind->by == BY_PAGE)
	{
		put_row(state, conn, lookups, 0, "", record);
		return;
	}
	if (kind->by == BY_FIELD)
	{
		for (int i = 0; i < state->nkeys; i++)
			put_row(state, conn, lookups, state->keys[i].lookup, state->keys[i].key, record);
		return;
	}
	for (int i = 0; i < (int) lengthof(offered); i++)
		offer_field(state, conn, lookups, record, offered[i]);
}

static void
offer_rows(State *state, const AdapterConnection *conn, const AdapterLookup *lookups, struct json_object *rows)
{
	for (int i = 0; i < json_count(rows); i++)
		offer_row(state, conn, lookups, json_item(rows, i));
}

/* ------------------------------------------------------- kinds of relations */

/* Relations without a kind have the kind 0; services have none ever. */
static bool
has_no_kind(const AdapterConnection *conn, const char *key)
{
	const char *depends_on = adapter_setting(conn, "depends_on_type");

	return adapter_setting(conn, "relation_lookup") == NULL || (depends_on != NULL && strcmp(depends_on, key) == 0);
}

static void
put_kind(State *state, const char *key, int64 id)
{
	AdapterLookupRow *row = add_row(state);

	row->key = json_to_server(key);
	row->external_id = psprintf(INT64_FORMAT, id);
	row->label = row->key;
}

static void
offer_kinds(State *state, const AdapterConnection *conn, const AdapterLookup *lookup, struct json_object *rows)
{
	for (int k = 0; k < lookup->nkeys; k++)
	{
		if (has_no_kind(conn, lookup->keys[k]))
			put_kind(state, lookup->keys[k], 0);
		for (int i = 0; i < json_count(rows) && !has_no_kind(conn, lookup->keys[k]); i++)
		{
			struct json_object *row = json_item(rows, i);
			const char		   *name = json_scalar(row, "name");

			if (name != NULL && halo_same_name(name, lookup->keys[k]))
				put_kind(state, lookup->keys[k], json_int(row, "id", 0));
		}
	}
}

static char *
kinds_path(const AdapterConnection *conn)
{
	const char *number = adapter_setting(conn, "relation_lookup");

	return psprintf("/Lookup?lookupid=" INT64_FORMAT, number && halo_number(number) > 0 ? halo_number(number) : 11);
}

/* ---------------------------------------------------------------- requests */

static char *
record_path(const State *state)
{
	int64 id = halo_number(state->keys[state->at].key);

	return psprintf("%s/" INT64_FORMAT "?includedetails=true", state->resource->path, id);
}

static void
ask(const AdapterConnection *conn, State *state, AdapterRequest *request)
{
	switch (state->mode)
	{
		case MODE_PAGES:
			halo_request_get(request, halo_list_path(conn, state->resource, state->page, NULL));
			break;
		case MODE_SEARCH:
			halo_request_get(request, halo_list_path(conn, state->resource, state->page, state->keys[state->at].key));
			break;
		case MODE_RECORDS:
			halo_request_get(request, record_path(state));
			break;
		case MODE_KINDS:
			halo_request_get(request, kinds_path(conn));
			break;
		case MODE_UNKNOWN:
			halo_request_nothing(request);
			break;
	}
}

void
halo_lookup_build(const AdapterConnection *conn, const AdapterLookup *lookups, int nlookups, AdapterRequest *request)
{
	State *state = palloc0(sizeof(State));

	state->mode = mode_of(&lookups[0]);
	state->resource = resource_for(&lookups[0]);
	state->page = 1;
	request->nused = count_shared(conn, lookups, nlookups);
	request->state = state;
	gather_keys(state, lookups, request->nused);
	if (state->nkeys == 0 && state->mode == MODE_RECORDS)
		state->mode = MODE_UNKNOWN;
	ask(conn, state, request);
	request->follow_ups = state->mode == MODE_RECORDS ? state->nkeys - 1 : 0;
}

/* ----------------------------------------------------------------- answers */

/* Of one record: gone is no failure, it has no row then. */
static void
read_record(State *state, const AdapterConnection *conn, const AdapterLookup *lookups, const HaloAnswer *answer)
{
	const Key *key = &state->keys[state->at];

	if (answer->error_class == NULL && json_int(answer->root, "id", 0) == halo_number(key->key))
		put_row(state, conn, lookups, key->lookup, key->key, answer->root);
}

/* May the reading go on behind this answer? */
static bool
is_usable(const State *state, const HaloAnswer *answer)
{
	if (state->mode == MODE_RECORDS && answer->error_class != NULL)
		return strcmp(answer->error_class, "HTTP_404") == 0;
	return answer->error_class == NULL;
}

static const char *
layer_of(const State *state)
{
	return state->mode == MODE_RECORDS ? "record" : "question";
}

/* More pages than keys: the keys are asked for one by one. */
static bool
should_search(const State *state, int64 total)
{
	return state->mode == MODE_PAGES && state->page == 1 && state->resource->searches && state->nkeys > 0 &&
		   (total + HALO_PAGE - 1) / HALO_PAGE > state->nkeys + 1;
}

static void
note_completeness(State *state, int rows, int64 total)
{
	if (halo_page_state(state->seen, rows, total) == PAGE_LAST_INCOMPLETE)
		state->incomplete = true;
}

static bool
follow_list(State *state, const AdapterConnection *conn, const AdapterLookup *lookups, struct json_object *root)
{
	int64				total;
	struct json_object *rows = halo_answer_rows(state->resource, root, &total);
	int					n = json_count(rows);
	bool				last = halo_page_state(state->seen, n, total) != PAGE_MORE;

	if (rows == NULL)
		return false;
	if (should_search(state, total))
	{
		state->mode = MODE_SEARCH;
		state->seen = 0;
		return true;
	}
	if (last && (state->mode == MODE_PAGES || state->at + 1 >= state->nkeys))
		return false;
	note_completeness(state, n, total);
	offer_rows(state, conn, lookups, rows);
	state->seen = last ? 0 : state->seen + n;
	state->page = last ? 1 : state->page + 1;
	state->at += last ? 1 : 0;
	return true;
}

/* Takes what the answer holds, unless it is the last one. */
bool
halo_lookup_follow(const AdapterConnection *conn, const AdapterLookup *lookups, AdapterRequest *request,
				   const AdapterResponse *response)
{
	State	  *state = request->state;
	HaloAnswer answer;
	bool	   more = false;

	halo_answer_open(response, layer_of(state), &answer);
	if (!is_usable(state, &answer))
		return false;
	if (state->mode == MODE_RECORDS && state->at + 1 < state->nkeys)
	{
		read_record(state, conn, lookups, &answer);
		state->at++;
		more = true;
	}
	else if (state->mode == MODE_PAGES || state->mode == MODE_SEARCH)
		more = follow_list(state, conn, lookups, answer.root);
	if (more)
		ask(conn, state, request);
	return more;
}

/* The last answer; false if it is none to what was asked. */
static bool
read_last(State *state, const AdapterConnection *conn, const AdapterLookup *lookups, const HaloAnswer *answer)
{
	int64				total;
	struct json_object *rows;

	switch (state->mode)
	{
		case MODE_RECORDS:
			read_record(state, conn, lookups, answer);
			return true;
		case MODE_KINDS:
			offer_kinds(state, conn, &lookups[0], answer->root);
			return json_is_array(answer->root);
		case MODE_UNKNOWN:
			return true;
		case MODE_PAGES:
		case MODE_SEARCH:
			break;
	}
	rows = halo_answer_rows(state->resource, answer->root, &total);
	note_completeness(state, json_count(rows), total);
	offer_rows(state, conn, lookups, rows);
	return rows != NULL;
}

/* A mirror is told how many rows remain behind those that it got: a list is always read to its end. */
static void
end_page(State *state, const AdapterLookup *lookup)
{
	AdapterLookupRow *row;

	if (find_kind(lookup) == NULL || find_kind(lookup)->by != BY_PAGE)
		return;
	row = add_row(state);
	row->key = "";
	row->label = "0";
}

static void
fill_result(const State *state, int nlookups, AdapterLookupResult *result)
{
	const AdapterRule *unknown = halo_rule("item", "UNKNOWN_KIND");

	for (int i = 0; i < nlookups; i++)
	{
		result->kinds[i] = OUTCOME_DONE;
		if (state->mode != MODE_UNKNOWN || state->nkeys == 0)
			continue;
		result->kinds[i] = adapter_rule_kind(unknown);
		result->error_classes[i] = unknown->match;
		result->messages[i] = unknown->reason;
	}
	result->nrows = state->nrows;
	result->rows = state->rows;
}

ResponseVerdict
halo_lookup_read(const AdapterConnection *conn, const AdapterLookup *lookups, const AdapterRequest *request,
				 const AdapterResponse *response, AdapterLookupResult *result, AdapterReport *report)
{
	State	  *state = request->state;
	HaloAnswer answer;

	halo_answer_open(response, layer_of(state), &answer);
	if (is_usable(state, &answer) && !read_last(state, conn, lookups, &answer))
		halo_answer_unusable(&answer, "the answer is no list of records");
	if (!is_usable(state, &answer))
	{
		report->error_class = answer.error_class;
		report->message = answer.message;
		return answer.verdict == RESPONSE_READABLE ? adapter_rule_verdict(answer.rule) : answer.verdict;
	}
	if (state->incomplete)
	{
		const AdapterRule *rule = halo_rule("item", "INCOMPLETE");

		report->error_class = rule->match;
		report->message = rule->reason;
		return adapter_rule_verdict(rule);
	}
	end_page(state, &lookups[0]);
	fill_result(state, request->nused, result);
	return RESPONSE_READABLE;
}
