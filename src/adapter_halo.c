/*
 * adapter_halo.c
 *	  The HaloITSM adapter: which way each item travels, and what the answer says
 *	  about it.
 *
 * Pure, as adapter.h demands; the ways themselves are halo_*.c.  One object a
 * POST (haloitsm-api 0, 5.4).  Nothing is made twice harmlessly, so that what is
 * in doubt is looked for first; an update names its record, and a relation is
 * read before it is written.
 *
 * Copyright (c) 2026, the pgsync_itsm authors; PostgreSQL licence
 */
#include "postgres.h"

#include <json-c/json.h>

#include "halo.h"

/* Relations of one parent in one request, at the most. */
#define MAX_RELATIONS 100

#define MAX_LOOKUPS 20

typedef enum Route
{
	ROUTE_RECORD,	/* a POST of one record, or its removal */
	ROUTE_RECHECK,	/* is it there? */
	ROUTE_RELATIONS /* read, merged, written */
} Route;

static bool
is_creation(const char *action)
{
	return strcmp(action, "CREATE") == 0;
}

static Route
route_of(const char *entity_type, const char *action, bool in_doubt)
{
	if (halo_is_relation(entity_type))
		return ROUTE_RELATIONS;
	return in_doubt && is_creation(action) ? ROUTE_RECHECK : ROUTE_RECORD;
}

static bool
idempotent(const AdapterConnection *conn, const char *entity_type, const char *action)
{
	return !is_creation(action) || halo_is_relation(entity_type);
}

/* What is a part of an asset may be written together; what a contract covers is a part of the contract. */
static void
fill_kinds(const char *entity_type, const char *action, AdapterLane *lane)
{
	static const char *const of_assets[] = {"consumes", "depends_on", "runs_on", "sends_data_to"};

	lane->nkinds = 1;
	lane->entity_types[0] = entity_type;
	lane->actions[0] = action;
	if (!halo_is_relation(entity_type) || strcmp(entity_type, "covers") == 0)
		return;
	lane->nkinds = lengthof(of_assets);
	for (int i = 0; i < (int) lengthof(of_assets); i++)
	{
		lane->entity_types[i] = of_assets[i];
		lane->actions[i] = action;
	}
}

static void
lane_of(const AdapterConnection *conn, const char *entity_type, const char *action, bool in_doubt, AdapterLane *lane)
{
	memset(lane, 0, sizeof(*lane));
	fill_kinds(entity_type, action, lane);
	lane->one_parent = halo_is_relation(entity_type);
	lane->api = lane->one_parent ? "relation" : "api";
	lane->max_items = lane->one_parent ? MAX_RELATIONS : 1;
	lane->max_records = 1;
}

static int
max_lookups(const AdapterConnection *conn)
{
	return MAX_LOOKUPS;
}

/* ----------------------------------------------------------------- building */

static void
build_record(const AdapterConnection *conn, const AdapterItem *item, const HaloPayload *payload,
			 AdapterRequest *request)
{
	if (strcmp(item->action, "DELETE") == 0)
	{
		halo_request_get(request,
						 psprintf("%s/" INT64_FORMAT, payload->resource->path, halo_number(item->external_id)));
		request->method = "DELETE";
		request->writes = true;
	}
	else
		halo_request_post(request, payload->resource->path, halo_payload_body(conn, item, payload));
}

static void
build(const AdapterConnection *conn, const AdapterItem *items, int nitems, AdapterRequest *request)
{
	HaloPayload payload;
	Route		route = route_of(items[0].entity_type, items[0].action, items[0].in_doubt);

	memset(request, 0, sizeof(*request));
	if (route == ROUTE_RELATIONS)
	{
		halo_relation_build(conn, items, nitems, request);
		return;
	}
	halo_payload_open(conn, &items[0], &payload);
	if (payload.refusal_class != NULL)
		halo_request_nothing(request);
	else if (route == ROUTE_RECHECK)
		halo_recheck_build(conn, &items[0], &payload, request);
	else
		build_record(conn, &items[0], &payload, request);
	request->nused = 1;
}

static bool
follow(const AdapterConnection *conn, const AdapterItem *items, AdapterRequest *request,
	   const AdapterResponse *response)
{
	if (request->state == NULL)
		return false;
	if (route_of(items[0].entity_type, items[0].action, items[0].in_doubt) == ROUTE_RELATIONS)
		return halo_relation_follow(conn, items, request, response);
	return halo_recheck_follow(conn, &items[0], request, response);
}

/* ------------------------------------------------------------------ reading */

static const char *
layer_of(const AdapterItem *item)
{
	if (strcmp(item->action, "DELETE") == 0)
		return "removal";
	return is_creation(item->action) && halo_number(item->external_id) == 0 ? "creation" : "record";
}

/* A caution although the write succeeded. */
static void
read_warning(struct json_object *record, AdapterOutcome *outcome)
{
	const char *warning = json_scalar(record, "_warning");

	if (warning != NULL && warning[0] != '\0')
		adapter_add_text(&outcome->message, adapter_text("the platform says: %s", warning));
}

static void
read_written(const AdapterConnection *conn, const AdapterItem *item, const HaloPayload *payload,
			 struct json_object *record, AdapterOutcome *outcome)
{
	int64 id = json_int(record, "id", 0);
	int64 known = halo_number(item->external_id);

	if (!json_is_object(record) || id <= 0)
	{
		halo_answer_rule(outcome, "item", json_is_array(record) ? "MANY" : "NO_ANSWER", NULL);
		return;
	}
	if (known > 0 && known != id)
	{
		halo_answer_rule(outcome, "item", "OTHER_RECORD", NULL);
		return;
	}
	outcome->kind = OUTCOME_DONE;
	outcome->operation = known > 0 ? "update" : "create";
	outcome->external_id = halo_id(payload->resource, id);
	outcome->external_table = payload->resource->class_name;
	if (payload->resource->type != NULL)
		outcome->external_number = json_to_server(json_scalar(record, "inventory_number"));
	outcome->not_taken = halo_payload_not_taken(conn, payload, record, &outcome->message);
	read_warning(record, outcome);
}

static void
read_removed(const AdapterItem *item, const HaloAnswer *answer, AdapterOutcome *outcome)
{
	outcome->kind = answer->error_class == NULL ? OUTCOME_DONE : OUTCOME_UNCHANGED;
	outcome->operation = "delete";
	outcome->external_id = json_to_server(item->external_id);
	if (answer->error_class != NULL)
		outcome->message = answer->rule->reason;
}

static ResponseVerdict
read_record(const AdapterConnection *conn, const AdapterItem *item, const HaloPayload *payload,
			const AdapterResponse *response, AdapterOutcome *outcome, AdapterReport *report)
{
	HaloAnswer answer;

	halo_answer_open(response, layer_of(item), &answer);
	report->error_class = answer.error_class;
	report->message = answer.message;
	if (answer.verdict != RESPONSE_READABLE)
		return answer.verdict;
	/* an array may hold the one record; what it says beside that is not known (haloitsm-api 0.5) */
	if (json_count(answer.root) == 1)
		answer.root = json_item(answer.root, 0);
	outcome->excerpt = adapter_excerpt(answer.root);
	if (answer.error_class != NULL && adapter_rule_kind(answer.rule) != OUTCOME_UNCHANGED)
		adapter_fail(outcome, adapter_rule_kind(answer.rule), answer.error_class, answer.message);
	else if (strcmp(item->action, "DELETE") == 0)
		read_removed(item, &answer, outcome);
	else
		read_written(conn, item, payload, answer.root, outcome);
	return RESPONSE_READABLE;
}

static ResponseVerdict
read_answer(const AdapterConnection *conn, const AdapterItem *items, const AdapterRequest *request,
			const AdapterResponse *response, AdapterOutcome *outcomes, AdapterReport *report)
{
	Route		route = route_of(items[0].entity_type, items[0].action, items[0].in_doubt);
	HaloPayload payload;

	memset(outcomes, 0, sizeof(AdapterOutcome) * request->nused);
	if (route == ROUTE_RELATIONS)
		return halo_relation_read(conn, items, request, response, outcomes, report);
	halo_payload_open(conn, &items[0], &payload);
	if (halo_payload_refused(&payload, &outcomes[0]))
		return RESPONSE_READABLE;
	if (route == ROUTE_RECHECK)
		return halo_recheck_read(conn, &items[0], request, response, &outcomes[0], report);
	return read_record(conn, &items[0], &payload, response, &outcomes[0], report);
}

static void
build_lookup(const AdapterConnection *conn, const AdapterLookup *lookups, int nlookups, AdapterRequest *request)
{
	memset(request, 0, sizeof(*request));
	halo_lookup_build(conn, lookups, nlookups, request);
}

static void
build_probe(const AdapterConnection *conn, AdapterRequest *request)
{
	memset(request, 0, sizeof(*request));
	halo_request_nothing(request);
}

static ResponseVerdict
read_probe(const AdapterConnection *conn, const AdapterResponse *response, AdapterReport *report)
{
	HaloAnswer answer;

	halo_answer_open(response, "question", &answer);
	report->error_class = answer.error_class;
	report->message = answer.message;
	return answer.verdict;
}

const Adapter halo_adapter = {
	.platform = "haloitsm",
	.rules = halo_rules,
	.nrules = HALO_RULES,
	.lookup_api = "api",
	.dry_run_api = NULL,
	.probe_api = "api",
	.lane = lane_of,
	.build = build,
	.read = read_answer,
	.follow = follow,
	.max_lookups = max_lookups,
	.build_lookup = build_lookup,
	.read_lookup = halo_lookup_read,
	.follow_lookup = halo_lookup_follow,
	.build_probe = build_probe,
	.read_probe = read_probe,
	.idempotent = idempotent,
};
