/*
 * servicenow_relation.c
 *	  What became of relationships in a payload for Identification and
 *	  Reconciliation (servicenow-api 5.5).
 *
 * They fail on their own, or for an end's sake.  An end that travelled as a
 * record tells its reason itself.
 *
 * Copyright (c) 2026, the pgsync_itsm authors; PostgreSQL licence
 */
#include "postgres.h"

#include "servicenow.h"

/* A relationship that did not come about because of an end says what ails the end. */
static bool
blame_end(const ServicenowCargo *cargo, const ServicenowPlace *place, struct json_object **cis, AdapterOutcome *outcome)
{
	static const char *const words[] = {"its parent", "its child"};
	const int				 slots[] = {place->slot, place->child};

	for (int i = 0; i < 2; i++)
	{
		struct json_object *ci = cis[cargo->slots[slots[i]].position];

		if (ci == NULL || !servicenow_ire_errors(ci, outcome))
			continue;
		outcome->message = psprintf("%s was refused: %s", words[i], outcome->message);
		return true;
	}
	return false;
}

/* Is the CI a record of this payload that did not come through? */
static bool
has_failed(const ServicenowSlot *slot, const AdapterOutcome *outcomes)
{
	return slot->record >= 0 &&
		   (outcomes[slot->record].kind == OUTCOME_RETRY || outcomes[slot->record].kind == OUTCOME_DEAD);
}

static void
read_success(const char *operation, const char *sys_id, struct json_object *result, AdapterOutcome *outcome)
{
	if (!servicenow_ire_operation(operation, outcome))
	{
		outcome->excerpt = adapter_excerpt(result);
		return;
	}
	outcome->external_table = "cmdb_rel_ci";
	if (servicenow_query_is_sys_id(sys_id))
		outcome->external_id = json_to_server(sys_id);
	outcome->excerpt = psprintf("{\"operation\":\"%s\",\"sysId\":\"%s\"}", operation,
								outcome->external_id != NULL ? outcome->external_id : "");
}

static void
read_relation(const ServicenowCargo *cargo, const ServicenowPlace *place, struct json_object *result,
			  struct json_object **cis, AdapterOutcome *outcome)
{
	const char *operation = json_scalar(result, "operation");

	if (result != NULL && servicenow_ire_errors(result, outcome))
	{
		if (strcmp(outcome->error_class, "ABANDONED") == 0)
			blame_end(cargo, place, cis, outcome);
		outcome->excerpt = adapter_excerpt(result);
	}
	else if (operation != NULL && operation[0] != '\0')
		read_success(operation, json_scalar(result, "sysId"), result, outcome);
	else
	{
		if (!blame_end(cargo, place, cis, outcome))
			servicenow_answer_rule(outcome, "batch", "NO_ANSWER", NULL);
		outcome->excerpt = adapter_excerpt(result);
	}
}

/*
 * Fills the outcomes of all relationships that travelled, those of the records
 * being filled; cis are the results of the payload's CIs by position.
 */
void
servicenow_relation_read(const ServicenowCargo *cargo, struct json_object *root, struct json_object **cis,
						 AdapterOutcome *outcomes)
{
	struct json_object **relations = servicenow_ire_results(json_path(root, "result.relations"), cargo->nrelations);

	for (int i = 0; i < cargo->nitems; i++)
	{
		const ServicenowPlace *place = &cargo->places[i];

		if (place->state != CARGO_TRAVELS || place->child < 0)
			continue;
		if (has_failed(&cargo->slots[place->slot], outcomes) || has_failed(&cargo->slots[place->child], outcomes))
			adapter_fail(&outcomes[i], OUTCOME_RELEASE, NULL, NULL);
		else
			read_relation(cargo, place, relations[place->number], cis, &outcomes[i]);
	}
}
