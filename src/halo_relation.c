/*
 * halo_relation.c
 *	  Relations, which are lists of their parent: read, merged, written, and seen
 *	  to be there (haloitsm-api 2.7, 3.3).
 *
 * A pair of assets has one relation at the most; writing another kind would
 * replace somebody's, so that is refused.  How a relation is written depends on
 * the build, and a member that a build does not know is lost in silence: what is
 * not there afterwards is written once more in the other way.
 *
 * Copyright (c) 2026, the pgsync_itsm authors; PostgreSQL licence
 */
#include "postgres.h"

#include <json-c/json.h>

#include "halo.h"

/* Builds before this one know whole lists only (haloitsm-api 2.7, 8). */
#define FIRST_BUILD_WITH_ADD 214

/* A list of a parent.  add and remove NULL: only as a whole. */
typedef struct ListKind
{
	const char *shown;
	const char *add;
	const char *edit;
	const char *remove;
	const char *table; /* of such a relation, here */
	bool		kinds; /* relations of it have one */
} ListKind;

typedef enum ListNumber
{
	LIST_CHILDREN,
	LIST_SERVICES,
	LIST_LICENCES,
	LIST_ITEMS,
	LISTS
} ListNumber;

static const ListKind lists[LISTS] = {
	{"child_assets", "add_child_assets", "edit_child_assets", "delete_child_assets", "asset_relation", true},
	{"services", NULL, NULL, NULL, "asset_service", false},
	{"licences", "add_licences", NULL, NULL, "asset_licence", false},
	{"configuration_items", "add_configuration_items", NULL, NULL, "contract_item", false},
};

typedef struct Link
{
	const char *refusal; /* error class: cannot be written at all */
	ListNumber	list;
	int64		other;
	int64		kind;
	bool		wanted;	 /* to be there, or to be gone */
	bool		before;	 /* it was so */
	bool		no_kind; /* it is there, without a kind */
} Link;

typedef enum Phase
{
	PHASE_NOTHING, /* there is nothing to be asked */
	PHASE_READ,
	PHASE_WRITE,
	PHASE_VERIFY
} Phase;

typedef struct State
{
	Phase				phase;
	const HaloResource *resource; /* of the parent */
	int64				parent;
	const char		   *parent_id;
	bool				whole; /* written as whole lists */
	bool				both;  /* both ways have been tried */
	int					n;
	Link			   *links;
	const char		  **ids;
} State;

bool
halo_is_relation(const char *entity_type)
{
	static const char *const types[] = {"consumes", "depends_on", "runs_on", "sends_data_to", "covers"};

	for (int i = 0; i < (int) lengthof(types); i++)
	{
		if (strcmp(types[i], entity_type) == 0)
			return true;
	}
	return false;
}

/* ------------------------------------------------------------------- links */

/* The ends of an item: of one that is to be gone, as its id here says, "asset/4101>asset/4300#3" with its kind. */
static void
find_ends(const AdapterItem *item, const char **parent, const char **child)
{
	const char *arrow = item->external_id ? strchr(item->external_id, '>') : NULL;

	*parent = item->parent_external_id;
	*child = item->child_external_id;
	if (strcmp(item->action, "DELETE") == 0 && arrow != NULL)
	{
		*parent = pnstrdup(item->external_id, arrow - item->external_id);
		*child = pnstrdup(arrow + 1, strcspn(arrow + 1, "#"));
	}
}

static bool
begins_with(const char *text, const char *start)
{
	return text != NULL && strncmp(text, start, strlen(start)) == 0;
}

static void
open_link(const AdapterItem *item, const char *parent, const char *child, Link *link)
{
	bool contract = begins_with(parent, "contract/");

	memset(link, 0, sizeof(*link));
	link->other = halo_number(child);
	link->kind = halo_number(item->rel_type_id);
	link->wanted = strcmp(item->action, "DELETE") != 0;
	if (!link->wanted && item->external_id != NULL && strchr(item->external_id, '#') != NULL)
		link->kind = halo_number(strchr(item->external_id, '#') + 1);
	if (halo_number(parent) == 0 || link->other == 0)
		link->refusal = "NO_END";
	else if (begins_with(child, "asset/"))
		link->list = contract ? LIST_ITEMS : LIST_CHILDREN;
	else if (begins_with(child, "service/") && !contract)
		link->list = LIST_SERVICES;
	else if (begins_with(child, "licence/") && !contract)
		link->list = LIST_LICENCES;
	else
		link->refusal = "UNLINKABLE";
	if (link->refusal == NULL && !lists[link->list].kinds)
		link->kind = 0;
}

/* By setting; else by the build, as the test of the connection has seen it: 2.236 is one of 2026. */
static bool
writes_whole_lists(const AdapterConnection *conn)
{
	const char *way = adapter_setting(conn, "relation_writes");
	int64		build;

	if (way != NULL && strcmp(way, "auto") != 0)
		return strcmp(way, "list") == 0;
	build = halo_known_id(conn, "build");
	return build > 0 && build < FIRST_BUILD_WITH_ADD;
}

/* Somebody has said how relations are written: what the answer does not show is believed. */
static bool
is_told_how(const AdapterConnection *conn)
{
	const char *way = adapter_setting(conn, "relation_writes");

	return way != NULL && strcmp(way, "auto") != 0;
}

static char *
parent_path(const State *state)
{
	return psprintf("%s/" INT64_FORMAT "?includedetails=true", state->resource->path, state->parent);
}

void
halo_relation_build(const AdapterConnection *conn, const AdapterItem *items, int nitems, AdapterRequest *request)
{
	State *state = palloc0(sizeof(State));

	state->n = request->nused = nitems;
	state->links = palloc(sizeof(Link) * nitems);
	state->ids = palloc0(sizeof(char *) * nitems);
	for (int i = 0; i < nitems; i++)
	{
		const char *parent;
		const char *child;

		find_ends(&items[i], &parent, &child);
		open_link(&items[i], parent, child, &state->links[i]);
		if (state->links[i].refusal != NULL)
			continue;
		state->parent = halo_number(parent);
		state->resource =
			halo_resource(begins_with(parent, "contract/") ? "supplier_contract" : "business_application");
		state->ids[i] = psprintf("%s>%s%s", parent, child,
								 state->links[i].kind > 0 ? psprintf("#" INT64_FORMAT, state->links[i].kind) : "");
	}
	state->whole = writes_whole_lists(conn);
	request->state = state;
	request->api = "relation";
	if (state->resource == NULL)
	{
		halo_request_nothing(request);
		request->api = "relation";
		return;
	}
	state->phase = PHASE_READ;
	halo_request_get(request, parent_path(state));
	request->api = "relation";
	request->follow_ups = 1;
}

/* ------------------------------------------------------------- what is there */

static struct json_object *
find_row(struct json_object *record, const Link *link)
{
	struct json_object *rows = json_member(record, lists[link->list].shown);

	for (int i = 0; i < json_count(rows); i++)
	{
		if (json_int(json_item(rows, i), "id", 0) == link->other)
			return json_item(rows, i);
	}
	return NULL;
}

static bool
is_as_wanted(struct json_object *record, const Link *link)
{
	struct json_object *row = find_row(record, link);
	int64				kind = row ? json_int(row, "relationship_id", 0) : 0;

	/* a pair that has another kind by now is related by somebody else */
	if (!link->wanted)
		return row == NULL || (link->kind > 0 && kind > 0 && kind != link->kind);
	return row != NULL && (link->kind == 0 || kind == link->kind);
}

/* What there was before anything is written. */
static void
look_before(State *state, struct json_object *record)
{
	for (int i = 0; i < state->n; i++)
	{
		Link			   *link = &state->links[i];
		struct json_object *row;

		if (link->refusal != NULL)
			continue;
		row = find_row(record, link);
		link->before = is_as_wanted(record, link);
		link->no_kind = row != NULL && json_int(row, "relationship_id", 0) == 0;
		if (link->wanted && row != NULL && !link->before && !link->no_kind)
			link->refusal = "OTHER_KIND";
	}
}

static bool
is_open(const Link *link)
{
	return link->refusal == NULL && !link->before;
}

static bool
all_as_wanted(const State *state, struct json_object *record)
{
	for (int i = 0; i < state->n; i++)
	{
		if (is_open(&state->links[i]) && !is_as_wanted(record, &state->links[i]))
			return false;
	}
	return true;
}

/* Does the record show the lists that were written?  Without details they are left out. */
static bool
shows_lists(const State *state, struct json_object *record)
{
	for (int i = 0; i < state->n; i++)
	{
		if (is_open(&state->links[i]) && !json_is_array(json_member(record, lists[state->links[i].list].shown)))
			return false;
	}
	return true;
}

/* ----------------------------------------------------------------- writing */

static void
append_entry(StringInfo buf, const State *state, const ListKind *list, int64 other, int64 kind)
{
	json_append_comma(buf);
	appendStringInfo(buf, "{\"id\":" INT64_FORMAT, other);
	if (list->kinds)
		appendStringInfo(
			buf, ",\"relationship_id\":" INT64_FORMAT ",\"parent_id\":" INT64_FORMAT ",\"child_id\":" INT64_FORMAT,
			kind, state->parent, other);
	appendStringInfoChar(buf, '}');
}

static void
open_list(StringInfo buf, const char *name)
{
	json_append_comma(buf);
	json_append_string(buf, name);
	appendStringInfoString(buf, ":[");
}

/* Is this one to be gone, or written anew? */
static bool
is_replaced(const State *state, ListNumber number, int64 other)
{
	for (int i = 0; i < state->n; i++)
	{
		if (is_open(&state->links[i]) && state->links[i].list == number && state->links[i].other == other)
			return true;
	}
	return false;
}

/* All that is there, without what is to be gone, with what is to be there. */
static void
append_whole(StringInfo buf, const State *state, ListNumber number, struct json_object *record)
{
	struct json_object *rows = json_member(record, lists[number].shown);

	open_list(buf, lists[number].shown);
	for (int i = 0; i < json_count(rows); i++)
	{
		int64 other = json_int(json_item(rows, i), "id", 0);

		if (other > 0 && !is_replaced(state, number, other))
			append_entry(buf, state, &lists[number], other, json_int(json_item(rows, i), "relationship_id", 0));
	}
	for (int i = 0; i < state->n; i++)
	{
		const Link *link = &state->links[i];

		if (is_open(link) && link->list == number && link->wanted)
			append_entry(buf, state, &lists[number], link->other, link->kind);
	}
	appendStringInfoChar(buf, ']');
}

/* The list's member for a change of this link; NULL: only the whole list will do. */
static const char *
member_for(const ListKind *list, const Link *link)
{
	if (!link->wanted)
		return list->remove;
	return link->no_kind ? list->edit : list->add;
}

static void
append_changes(StringInfo buf, const State *state, ListNumber number, const char *member)
{
	bool any = false;

	for (int i = 0; i < state->n; i++)
	{
		const Link *link = &state->links[i];

		if (!is_open(link) || link->list != number || member_for(&lists[number], link) != member)
			continue;
		if (!any)
			open_list(buf, member);
		any = true;
		append_entry(buf, state, &lists[number], link->other, link->kind);
	}
	if (any)
		appendStringInfoChar(buf, ']');
}

static void
append_list(StringInfo buf, const State *state, ListNumber number, struct json_object *record)
{
	const ListKind *list = &lists[number];
	bool			any = false;
	bool			whole = state->whole;

	for (int i = 0; i < state->n; i++)
	{
		const Link *link = &state->links[i];

		if (!is_open(link) || link->list != number)
			continue;
		any = true;
		whole = whole || member_for(list, link) == NULL;
	}
	if (!any)
		return;
	if (whole)
	{
		append_whole(buf, state, number, record);
		return;
	}
	append_changes(buf, state, number, list->add);
	if (list->edit != NULL)
		append_changes(buf, state, number, list->edit);
	if (list->remove != NULL)
		append_changes(buf, state, number, list->remove);
}

/* The answer to it may show the lists, where it takes the parameter. */
static void
ask_to_write(State *state, struct json_object *record, AdapterRequest *request)
{
	StringInfoData buf;

	initStringInfo(&buf);
	appendStringInfo(&buf, "[{\"id\":" INT64_FORMAT, state->parent);
	for (int i = 0; i < LISTS; i++)
		append_list(&buf, state, i, record);
	if (strcmp(state->resource->prefix, "asset") == 0)
		appendStringInfoString(&buf, ",\"_dontaddnewfields\":true");
	appendStringInfoString(&buf, "}]");
	state->phase = PHASE_WRITE;
	halo_request_post(request, psprintf("%s?includedetails=true", state->resource->path), buf.data);
	request->api = "relation";
}

static void
ask_to_verify(State *state, AdapterRequest *request)
{
	state->phase = PHASE_VERIFY;
	halo_request_get(request, parent_path(state));
	request->api = "relation";
}

static bool
is_parent(const State *state, const HaloAnswer *answer)
{
	return answer->error_class == NULL && json_int(answer->root, "id", 0) == state->parent;
}

/* Written, and not there: once in the other way.  Read again first, where the answer did not show all lists. */
static bool
write_otherwise(State *state, struct json_object *record, AdapterRequest *request)
{
	if (state->both || all_as_wanted(state, record))
		return false;
	state->both = true;
	state->whole = !state->whole;
	ask_to_write(state, record, request);
	return true;
}

bool
halo_relation_follow(const AdapterConnection *conn, const AdapterItem *items, AdapterRequest *request,
					 const AdapterResponse *response)
{
	State	  *state = request->state;
	HaloAnswer answer;

	halo_answer_open(response, "relation", &answer);
	if (state->phase == PHASE_NOTHING || !is_parent(state, &answer))
		return false;
	switch (state->phase)
	{
		case PHASE_READ:
			look_before(state, answer.root);
			if (all_as_wanted(state, answer.root))
				return false;
			ask_to_write(state, answer.root, request);
			return true;
		case PHASE_WRITE:
			if (shows_lists(state, answer.root) ? all_as_wanted(state, answer.root) : is_told_how(conn))
				return false;
			ask_to_verify(state, request);
			return true;
		case PHASE_VERIFY:
			return write_otherwise(state, answer.root, request);
		case PHASE_NOTHING:
			break;
	}
	return false;
}

/* ----------------------------------------------------------------- reading */

static void
read_link(const State *state, int i, const AdapterItem *item, struct json_object *record, AdapterOutcome *outcome)
{
	const Link *link = &state->links[i];

	if (link->refusal != NULL)
	{
		halo_answer_rule(outcome, strcmp(link->refusal, "NO_END") == 0 ? "item" : "relation", link->refusal, NULL);
		return;
	}
	outcome->external_id = state->ids[i];
	outcome->external_table = lists[link->list].table;
	if (link->before)
	{
		outcome->kind = OUTCOME_UNCHANGED;
		outcome->message = link->wanted ? "the relation is there already" : "it was gone already";
	}
	else if (is_as_wanted(record, link) || (state->phase == PHASE_WRITE && !shows_lists(state, record)))
	{
		outcome->kind = OUTCOME_DONE;
		outcome->operation = link->wanted ? "create" : "delete";
	}
	else
		halo_answer_rule(outcome, "relation", link->wanted ? "NOT_LINKED" : "NOT_UNLINKED", NULL);
}

/* A refused request of several: in halves, until the one to blame stands alone. */
static ResponseVerdict
read_refusal(const State *state, const HaloAnswer *answer, AdapterOutcome *outcomes, AdapterReport *report)
{
	report->error_class = answer->error_class;
	report->message = answer->message;
	if (answer->verdict != RESPONSE_READABLE)
		return answer->verdict;
	if (state->phase == PHASE_WRITE && state->n > 1)
		return RESPONSE_DEAD;
	for (int i = 0; i < state->n; i++)
		adapter_fail(&outcomes[i], adapter_rule_kind(answer->rule), answer->error_class, answer->message);
	return RESPONSE_READABLE;
}

/* A parent that is gone has no relations. */
static bool
all_removed(const State *state, const HaloAnswer *answer)
{
	if (answer->error_class == NULL || strcmp(answer->error_class, "HTTP_404") != 0)
		return false;
	for (int i = 0; i < state->n; i++)
	{
		if (state->links[i].wanted)
			return false;
	}
	return true;
}

ResponseVerdict
halo_relation_read(const AdapterConnection *conn, const AdapterItem *items, const AdapterRequest *request,
				   const AdapterResponse *response, AdapterOutcome *outcomes, AdapterReport *report)
{
	State			   *state = request->state;
	HaloAnswer			answer;
	struct json_object *record;

	halo_answer_open(response, "relation", &answer);
	record = answer.root;
	if (state->phase != PHASE_NOTHING && all_removed(state, &answer))
	{
		record = NULL;
		look_before(state, NULL);
	}
	else if (state->phase != PHASE_NOTHING)
	{
		if (answer.error_class == NULL && !is_parent(state, &answer))
			halo_answer_unusable(&answer, "the answer is not the record that was asked for");
		if (answer.error_class != NULL)
			return read_refusal(state, &answer, outcomes, report);
		if (state->phase == PHASE_READ)
			look_before(state, record);
	}
	for (int i = 0; i < state->n; i++)
		read_link(state, i, &items[i], record, &outcomes[i]);
	return RESPONSE_READABLE;
}
