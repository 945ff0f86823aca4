/*
 * halo_setup.c
 *	  What publishing needs on a HaloITSM tenant, and making it (haloitsm-api 2.8).
 *
 * A type carries its own fields; the first key field is what Halo shows as the
 * name.  Types of Halo's own service model make further records by themselves, so
 * a plain one is wanted, beside it if need be.  Kinds of relations can be read and
 * not made by this way; without them relations have no kind.
 *
 * Nothing is made before all of it has been looked for; each step asks until it
 * has nothing more to ask.  Pure: no SPI, no sockets.  Texts are UTF-8.
 *
 * Copyright (c) 2026, the pgsync_itsm authors; PostgreSQL licence
 */
#include "postgres.h"

#include <json-c/json.h>

#include "check.h"
#include "halo.h"

#define MAX_CLASSES 3

/* A type that was found or made, with its slots. */
typedef struct TypeFacts
{
	CheckThing		   *thing;
	struct json_object *shown;	 /* with details; NULL: not asked yet, or not there */
	bool				written; /* as far as it can be */
} TypeFacts;

typedef struct Setup
{
	int64	  group;
	int		  ntypes;
	TypeFacts types[MAX_CLASSES];
	int64	  kinds_lookup; /* that holds the kinds of relations; 0: none was found */
} Setup;

static Setup *
setup_of(CheckContext *context)
{
	HaloFacts *facts = context->facts;
	ListCell  *lc;

	if (facts->setup == NULL)
	{
		Setup *setup = palloc0(sizeof(Setup));

		foreach (lc, context->things)
		{
			CheckThing *thing = lfirst(lc);

			if (strcmp(thing->kind, "asset type") == 0 && setup->ntypes < MAX_CLASSES)
				setup->types[setup->ntypes++].thing = thing;
		}
		facts->setup = setup;
	}
	return facts->setup;
}

/* ------------------------------------------------------------ small helpers */

static bool
get(AdapterRequest *request, const char *path)
{
	halo_request_get(request, pstrdup(path));
	return true;
}

static bool
is_kind(const CheckThing *thing, const char *kind)
{
	return strcmp(thing->kind, kind) == 0;
}

static const char *
setting(CheckContext *context, const char *name)
{
	const char *value = adapter_setting(context->conn, name);

	return value ? value : "";
}

/* The list of an answer; NULL, and the end of it, if there is none. */
static struct json_object *
list_of(CheckContext *context, const AdapterResponse *response, const char *what)
{
	HaloAnswer answer;

	halo_answer_open(response, "question", &answer);
	if (answer.error_class == NULL && json_is_array(answer.root))
		return answer.root;
	check_report(context, what, CHECK_FAILED, answer.message ? json_to_utf8(answer.message) : "the answer is no list",
				 "SELECT * FROM itsm_test_connection(connection_id); it names the scopes that are needed.");
	context->stop = true;
	return NULL;
}

/* Of a list "a|b|c", is one the same name? */
static bool
is_alternative(const char *alternatives, const char *name)
{
	while (alternatives != NULL)
	{
		const char *end = strchr(alternatives, '|');
		char	   *one = end ? pnstrdup(alternatives, end - alternatives) : pstrdup(alternatives);

		if (halo_same_name(one, name))
			return true;
		alternatives = end ? end + 1 : NULL;
	}
	return false;
}

static void
found(CheckThing *thing, int64 id, const char *detail)
{
	thing->id = id;
	thing->state = "found";
	thing->detail = detail;
}

/* A thing of this kind and name that is not there, among the first of that name. */
static CheckThing *
next_missing(CheckContext *context, const char *kind)
{
	ListCell *lc;

	foreach (lc, context->things)
	{
		CheckThing *thing = lfirst(lc);

		if (is_kind(thing, kind) && thing->id == 0 && thing->state == NULL)
			return thing;
	}
	return NULL;
}

/* The same field is wanted by several types. */
static void
share(CheckContext *context, const CheckThing *from)
{
	ListCell *lc;

	foreach (lc, context->things)
	{
		CheckThing *thing = lfirst(lc);

		if (thing == from || !is_kind(thing, from->kind) || thing->id != 0 || thing->state != NULL ||
			!halo_same_name(thing->name, from->name))
			continue;
		thing->id = from->id;
		thing->state = from->state;
		thing->detail = from->detail;
	}
}

/* What became of a POST that was to make a thing. */
static void
read_made(CheckContext *context, CheckThing *thing, const AdapterResponse *response, HaloAnswer *answer)
{
	halo_answer_open(response, "record", answer);
	if (answer->error_class == NULL && json_int(answer->root, "id", 0) > 0)
	{
		thing->id = json_int(answer->root, "id", 0);
		thing->state = "made";
		return;
	}
	thing->state = "refused";
	if (response->status == 403)
		thing->detail =
			"changing the configuration needs the scope admin (or all), and an administrator as the agent of "
			"the API application; or make it by hand and call again";
	else
		thing->detail = answer->message ? json_to_utf8(answer->message) : "the answer does not show it";
}

/* -------------------------------------------------------------------- looking */

static bool
build_groups(CheckContext *context, AdapterRequest *request)
{
	return get(request, "/AssetGroup");
}

static void
read_named(CheckContext *context, const AdapterResponse *response, const char *kind)
{
	struct json_object *rows = list_of(context, response, kind);
	ListCell		   *lc;

	foreach (lc, context->things)
	{
		CheckThing *thing = lfirst(lc);

		for (int i = 0; is_kind(thing, kind) && i < json_count(rows); i++)
		{
			const char *name = json_scalar(json_item(rows, i), "name");

			if (name == NULL || thing->id != 0)
				continue;
			if (halo_same_name(name, thing->name))
				found(thing, json_int(json_item(rows, i), "id", 0), NULL);
		}
		for (int i = 0; is_kind(thing, kind) && thing->id == 0 && i < json_count(rows); i++)
		{
			const char *name = json_scalar(json_item(rows, i), "name");

			if (name != NULL && is_alternative(thing->alternatives, name))
				found(thing, json_int(json_item(rows, i), "id", 0), psprintf("is called \"%s\" there", name));
		}
	}
}

static void
read_groups(CheckContext *context, const AdapterResponse *response)
{
	ListCell *lc;

	read_named(context, response, "asset group");
	foreach (lc, context->things)
	{
		CheckThing *thing = lfirst(lc);

		if (is_kind(thing, "asset group"))
			setup_of(context)->group = thing->id;
	}
}

static bool
build_types(CheckContext *context, AdapterRequest *request)
{
	return get(request, "/AssetType");
}

static bool
is_flagged(struct json_object *row)
{
	return json_boolean(row, "is_service", false) || json_boolean(row, "is_businessapp", false) ||
		   json_boolean(row, "is_businessapp_instance", false) || json_boolean(row, "is_portfolio", false);
}

/* Of this name, plain if that is asked for; else of the name that ours has beside a flagged one. */
static void
find_type(CheckContext *context, CheckThing *thing, struct json_object *rows)
{
	bool use_flagged = strcmp(setting(context, "flagged_types"), "use") == 0;

	for (int i = 0; i < json_count(rows); i++)
	{
		struct json_object *row = json_item(rows, i);
		const char		   *name = json_scalar(row, "name");

		if (name == NULL)
			continue;
		if (halo_same_name(name, thing->name) && is_flagged(row) && !use_flagged)
			thing->detail =
				"the one of that name is of Halo's own service model and makes records by itself: a plain one "
				"is wanted beside it (setting flagged_types)";
		else if (halo_same_name(name, thing->name))
		{
			found(thing, json_int(row, "id", 0), NULL);
			return;
		}
		else if (thing->id == 0 && halo_same_name(name, thing->alternatives))
			found(thing, json_int(row, "id", 0), psprintf("is called \"%s\" there", thing->alternatives));
	}
}

static void
read_types(CheckContext *context, const AdapterResponse *response)
{
	struct json_object *rows = list_of(context, response, "asset type");
	Setup			   *setup = setup_of(context);

	for (int i = 0; i < setup->ntypes; i++)
		find_type(context, setup->types[i].thing, rows);
}

/* Slots are shown with details only. */
static bool
build_details(CheckContext *context, AdapterRequest *request)
{
	Setup *setup = setup_of(context);

	for (int i = 0; i < setup->ntypes; i++)
	{
		if (setup->types[i].thing->id > 0 && setup->types[i].shown == NULL)
			return get(request, psprintf("/AssetType/" INT64_FORMAT "?includedetails=true", setup->types[i].thing->id));
	}
	return false;
}

static void
read_details(CheckContext *context, const AdapterResponse *response)
{
	Setup	  *setup = setup_of(context);
	HaloAnswer answer;

	halo_answer_open(response, "question", &answer);
	for (int i = 0; i < setup->ntypes; i++)
	{
		if (setup->types[i].thing->id > 0 && setup->types[i].thing->id == json_int(answer.root, "id", 0))
		{
			setup->types[i].shown = answer.root;
			return;
		}
	}
	check_report(context, "asset type", CHECK_FAILED,
				 answer.message ? json_to_utf8(answer.message) : "a type that is in the list is not shown", NULL);
	context->stop = true;
}

static bool
build_fields(CheckContext *context, AdapterRequest *request)
{
	return get(request, "/Field?kind=T");
}

static void
read_fields(CheckContext *context, const AdapterResponse *response)
{
	read_named(context, response, "field");
}

static bool
build_statuses(CheckContext *context, AdapterRequest *request)
{
	return get(request, "/Status");
}

static void
read_statuses(CheckContext *context, const AdapterResponse *response)
{
	read_named(context, response, "status");
}

/* ---------------------------------------------------------- kinds of relations */

static bool
build_lookups(CheckContext *context, AdapterRequest *request)
{
	return get(request, "/Lookup?lookupid=11");
}

static bool
mentions_relations(const char *name)
{
	for (; name != NULL && *name != '\0'; name++)
	{
		if (pg_strncasecmp(name, "relation", 8) == 0)
			return true;
	}
	return false;
}

/* Lookup 11 lists the lookups; which one holds the kinds is not documented (haloitsm-api 2.7). */
static void
read_lookups(CheckContext *context, const AdapterResponse *response)
{
	struct json_object *rows = list_of(context, response, "relation kind");
	Setup			   *setup = setup_of(context);

	setup->kinds_lookup = halo_number(setting(context, "relation_lookup"));
	for (int i = 0; setup->kinds_lookup == 0 && i < json_count(rows); i++)
	{
		if (mentions_relations(json_scalar(json_item(rows, i), "name")))
			setup->kinds_lookup = json_int(json_item(rows, i), "id", 0);
	}
}

static bool
build_kinds(CheckContext *context, AdapterRequest *request)
{
	Setup *setup = setup_of(context);

	return setup->kinds_lookup > 0 && get(request, psprintf("/Lookup?lookupid=" INT64_FORMAT, setup->kinds_lookup));
}

/* All of them or none: a kind that is missing would hold back all relations of it. */
static void
read_kinds(CheckContext *context, const AdapterResponse *response)
{
	Setup	   *setup = setup_of(context);
	bool		all = true;
	const char *number = psprintf(INT64_FORMAT, setup->kinds_lookup);
	ListCell   *lc;

	read_named(context, response, "relation kind");
	foreach (lc, context->things)
	{
		CheckThing *thing = lfirst(lc);

		if (!is_kind(thing, "relation kind") || thing->id > 0)
			continue;
		all = false;
		thing->detail =
			psprintf("add it to lookup %s in Halo and call again, or name one that is there (settings *_type); "
					 "until then relations have no kind",
					 number);
	}
	if (all && context->apply && strcmp(number, setting(context, "relation_lookup")) != 0)
		context->settings = lappend(lappend(context->settings, "relation_lookup"), unconstify(char *, number));
}

/* --------------------------------------------------------------------- making */

static CheckThing *
missing_type(CheckContext *context)
{
	Setup *setup = setup_of(context);

	for (int i = 0; i < setup->ntypes; i++)
	{
		if (setup->types[i].thing->id == 0 && setup->types[i].thing->state == NULL)
			return setup->types[i].thing;
	}
	return NULL;
}

static bool
make_group(CheckContext *context, AdapterRequest *request)
{
	CheckThing	  *thing = next_missing(context, "asset group");
	StringInfoData body;

	if (thing == NULL || (missing_type(context) != NULL && !context->apply))
		return false;
	if (missing_type(context) == NULL)
	{
		thing->state = "not needed";
		return false;
	}
	initStringInfo(&body);
	appendStringInfoString(&body, "[{");
	json_append_member(&body, "name", thing->name);
	appendStringInfoString(&body, ",\"use\":1}]");
	halo_request_post(request, "/AssetGroup", body.data);
	return true;
}

static void
read_group(CheckContext *context, const AdapterResponse *response)
{
	CheckThing *thing = next_missing(context, "asset group");
	HaloAnswer	answer;

	read_made(context, thing, response, &answer);
	setup_of(context)->group = thing->id;
}

/* A type that has a first key field has a name already: no field is made for that. */
static struct json_object *
first_key_slot(struct json_object *type)
{
	struct json_object *slots = json_member(type, "fields");
	int64				key = json_int(type, "keyfield_id", 0);

	for (int i = 0; i < json_count(slots); i++)
	{
		struct json_object *slot = json_item(slots, i);

		if (key > 0 ? json_int(slot, "id", 0) == key : json_int(slot, "keyfield_id", 0) == 1)
			return slot;
	}
	return NULL;
}

static bool
is_name_field(CheckContext *context, const CheckThing *thing)
{
	return thing->class_name != NULL &&
		   halo_same_name(thing->name, halo_field_label(context->conn, thing->class_name, "name"));
}

static TypeFacts *
type_of(CheckContext *context, const char *class_name)
{
	Setup *setup = setup_of(context);

	for (int i = 0; i < setup->ntypes; i++)
	{
		if (strcmp(setup->types[i].thing->class_name, class_name) == 0)
			return &setup->types[i];
	}
	return NULL;
}

/* Names that types have already stand for the fields that would hold them. */
static void
take_names(CheckContext *context)
{
	ListCell *lc;

	foreach (lc, context->things)
	{
		CheckThing		   *thing = lfirst(lc);
		TypeFacts		   *type;
		struct json_object *slot;

		if (!is_kind(thing, "field") || !is_name_field(context, thing))
			continue;
		type = type_of(context, thing->class_name);
		slot = type ? first_key_slot(type->shown) : NULL;
		if (slot == NULL || thing->id == json_int(slot, "field_id", 0))
			continue;
		found(thing, json_int(slot, "field_id", 0),
			  psprintf("the first key field of its type is \"%s\"",
					   json_scalar(slot, "field_name") ? json_scalar(slot, "field_name") : "without name"));
	}
}

static bool
make_field(CheckContext *context, AdapterRequest *request)
{
	CheckThing	  *thing;
	StringInfoData body;

	take_names(context);
	thing = next_missing(context, "field");
	if (!context->apply || thing == NULL)
		return false;
	initStringInfo(&body);
	appendStringInfoString(&body, "[{");
	json_append_member(&body, "name", thing->name);
	/* of assets, and a text */
	appendStringInfoString(&body, ",\"kind\":\"T\",\"validate\":\"X\"}]");
	halo_request_post(request, "/Field", body.data);
	return true;
}

static void
read_field(CheckContext *context, const AdapterResponse *response)
{
	CheckThing *thing = next_missing(context, "field");
	HaloAnswer	answer;

	read_made(context, thing, response, &answer);
	share(context, thing);
}

static bool
has_slot(struct json_object *type, int64 field_id)
{
	struct json_object *slots = json_member(type, "fields");

	for (int i = 0; i < json_count(slots); i++)
	{
		if (json_int(json_item(slots, i), "field_id", 0) == field_id)
			return true;
	}
	return false;
}

/* Fields of a type that it has no slot for yet. */
static int
count_new_slots(CheckContext *context, const TypeFacts *type)
{
	ListCell *lc;
	int		  n = 0;

	foreach (lc, context->things)
	{
		const CheckThing *thing = lfirst(lc);

		if (is_kind(thing, "field") && strcmp(thing->class_name, type->thing->class_name) == 0 && thing->id > 0 &&
			!has_slot(type->shown, thing->id))
			n++;
	}
	return n;
}

/* The slots that are there as they are, since a list may replace them; then those that are missing. */
static void
append_slots(CheckContext *context, const TypeFacts *type, StringInfo body)
{
	struct json_object *slots = json_member(type->shown, "fields");
	bool				has_name = first_key_slot(type->shown) != NULL;
	ListCell		   *lc;

	appendStringInfoString(body, ",\"fields\":[");
	for (int i = 0; i < json_count(slots); i++)
	{
		json_append_comma(body);
		appendStringInfoString(body, json_print(json_item(slots, i)));
	}
	foreach (lc, context->things)
	{
		const CheckThing *thing = lfirst(lc);

		if (!is_kind(thing, "field") || strcmp(thing->class_name, type->thing->class_name) != 0 || thing->id == 0 ||
			has_slot(type->shown, thing->id))
			continue;
		json_append_comma(body);
		appendStringInfo(body, "{\"field_id\":" INT64_FORMAT, thing->id);
		if (!has_name && is_name_field(context, thing))
			json_append_member(body, "keyfield_id", "1");
		appendStringInfoChar(body, '}');
	}
	appendStringInfoChar(body, ']');
}

static TypeFacts *
next_type(CheckContext *context)
{
	Setup *setup = setup_of(context);

	for (int i = 0; i < setup->ntypes; i++)
	{
		TypeFacts *type = &setup->types[i];

		if (!type->written && (type->thing->id == 0 || count_new_slots(context, type) > 0))
			return type;
	}
	return NULL;
}

static bool
make_type(CheckContext *context, AdapterRequest *request)
{
	TypeFacts	  *type = next_type(context);
	Setup		  *setup = setup_of(context);
	StringInfoData body;

	if (!context->apply || type == NULL)
		return false;
	initStringInfo(&body);
	appendStringInfoString(&body, "[{");
	if (type->thing->id > 0)
		appendStringInfo(&body, "\"id\":" INT64_FORMAT, type->thing->id);
	else
	{
		json_append_member(&body, "name", type->thing->detail ? type->thing->alternatives : type->thing->name);
		if (setup->group > 0)
			appendStringInfo(&body, ",\"assetgroup_id\":" INT64_FORMAT, setup->group);
		appendStringInfoString(&body, ",\"allowall_status\":true");
	}
	append_slots(context, type, &body);
	appendStringInfoString(&body, "}]");
	halo_request_post(request, "/AssetType", body.data);
	return true;
}

static void
read_type(CheckContext *context, const AdapterResponse *response)
{
	TypeFacts *type = next_type(context);
	CheckThing before = *type->thing;
	HaloAnswer answer;

	type->written = true;
	read_made(context, type->thing, response, &answer);
	if (strcmp(type->thing->state, "made") != 0)
	{
		type->thing->id = before.id;
		return;
	}
	type->shown = answer.root;
	if (before.id > 0)
	{
		type->thing->state = "found";
		type->thing->detail = "got the fields that it lacked";
	}
}

static bool
make_status(CheckContext *context, AdapterRequest *request)
{
	CheckThing	  *thing = next_missing(context, "status");
	StringInfoData body;

	if (!context->apply || thing == NULL)
		return false;
	initStringInfo(&body);
	appendStringInfoString(&body, "[{");
	json_append_member(&body, "name", thing->name);
	appendStringInfoString(&body, "}]");
	halo_request_post(request, "/Status", body.data);
	return true;
}

static void
read_status(CheckContext *context, const AdapterResponse *response)
{
	HaloAnswer answer;

	read_made(context, next_missing(context, "status"), response, &answer);
}

/* Asks nothing: what is to be kept, and what a type still lacks. */
static bool
keep(CheckContext *context, AdapterRequest *request)
{
	Setup	 *setup = setup_of(context);
	ListCell *lc;

	for (int i = 0; i < setup->ntypes; i++)
	{
		TypeFacts		   *type = &setup->types[i];
		struct json_object *slot = first_key_slot(type->shown);

		check_keep_id(context, halo_resource(type->thing->class_name)->type, type->thing->id);
		check_keep_id(context, psprintf("name %s", type->thing->class_name), json_int(slot, "field_id", 0));
		if (type->thing->id > 0 && count_new_slots(context, type) > 0)
			type->thing->detail = psprintf("%d of its fields are missing", count_new_slots(context, type));
	}
	foreach (lc, context->things)
	{
		CheckThing *thing = lfirst(lc);

		if (is_kind(thing, "field") && !is_name_field(context, thing))
			check_keep_id(context, psprintf("field %s", thing->name), thing->id);
		if (is_kind(thing, "field") && thing->detail == NULL)
			thing->detail = psprintf("of %s", thing->class_name);
	}
	return false;
}

static void
read_nothing(CheckContext *context, const AdapterResponse *response)
{
}

const CheckStep halo_setup_steps[HALO_SETUP_STEPS] = {
	{build_groups, read_groups, false}, {build_types, read_types, false},		{build_details, read_details, true},
	{build_fields, read_fields, false}, {build_statuses, read_statuses, false}, {build_lookups, read_lookups, false},
	{build_kinds, read_kinds, false},	{make_group, read_group, false},		{make_field, read_field, true},
	{make_type, read_type, true},		{make_status, read_status, true},		{keep, read_nothing, false},
};
