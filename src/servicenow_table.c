/*
 * servicenow_table.c
 *	  One write through the Table API (servicenow-api 2.8 to 2.10) or the CMDB
 *	  Instance API (3), alone or as a part of a Batch.
 *
 * The Table API drops unknown fields and refused choices in silence, so what
 * comes back is compared with what was sent.  A CI is never created here
 * through the Table API.
 *
 * Copyright (c) 2026, the pgsync_itsm authors; PostgreSQL licence
 */
#include "postgres.h"

#include "servicenow.h"

/* After so many attempts a refusal of a creation is believed: a look in between found nothing. */
#define CREATION_ATTEMPTS 4

/* ---------------------------------------------------------------- building */

/* Only the fields that were sent come back, and what names the record. */
static char *
write_url(const char *table, const char *sys_id, const ServicenowPayload *payload)
{
	StringInfoData url;

	initStringInfo(&url);
	appendStringInfo(&url,
					 "%s?sysparm_display_value=false&sysparm_exclude_reference_link=true"
					 "&sysparm_fields=sys_id%%2Cnumber%%2Csys_class_name",
					 servicenow_query_table_url(table, sys_id));
	for (int i = 0; i < payload->nfields; i++)
	{
		appendStringInfoString(&url, "%2C");
		servicenow_query_encode(&url, payload->fields[i].name);
	}
	return url.data;
}

/* The columns of a relationship's row are its ends and, between CIs, its type. */
static void
add_ends(const AdapterItem *item, ServicenowPayload *payload)
{
	bool			 covers = strcmp(item->entity_type, "covers") == 0;
	ServicenowField *fields = palloc(sizeof(ServicenowField) * (payload->nfields + 3));
	int				 n = payload->nfields;

	if (n > 0)
		memcpy(fields, payload->fields, sizeof(ServicenowField) * n);
	fields[n++] = (ServicenowField){covers ? "contract" : "parent", item->parent_external_id};
	fields[n++] = (ServicenowField){covers ? "ci_item" : "child", item->child_external_id};
	if (!covers)
		fields[n++] = (ServicenowField){"type", item->rel_type_id};
	payload->fields = fields;
	payload->nfields = n;
}

/* What a write sends: the payload, and the ends of what connects two records. */
static ServicenowPayload
fields_of(const AdapterItem *item, const ServicenowPayload *payload)
{
	ServicenowPayload fields = *payload;

	if (strcmp(item->action, "CREATE") == 0 &&
		(servicenow_is_relation(item->entity_type) || strcmp(item->entity_type, "covers") == 0))
		add_ends(item, &fields);
	return fields;
}

/* Method, URL and body of one write through the Table API; the item is not refused. */
void
servicenow_table_call(const AdapterConnection *conn, const AdapterItem *item, const ServicenowPayload *payload,
					  ServicenowCall *call)
{
	const char		 *table = servicenow_payload_table(conn, item);
	ServicenowPayload fields;
	StringInfoData	  body;

	memset(call, 0, sizeof(*call));
	if (strcmp(item->action, "DELETE") == 0)
	{
		call->method = "DELETE";
		call->url = servicenow_query_table_url(table, item->external_id);
		return;
	}
	fields = fields_of(item, payload);
	initStringInfo(&body);
	appendStringInfoChar(&body, '{');
	servicenow_payload_append(&body, &fields);
	appendStringInfoChar(&body, '}');
	call->method = servicenow_is_creation(item) ? "POST" : "PATCH";
	call->url = write_url(table, servicenow_is_creation(item) ? NULL : item->external_id, &fields);
	call->body = body.data;
}

/* Does the item go through the CMDB Instance API? */
bool
servicenow_instance_takes(const AdapterConnection *conn, const AdapterItem *item)
{
	return strcmp(conn->write_api, "instance") == 0 && servicenow_is_ci(item->entity_type) &&
		   (strcmp(item->action, "CREATE") == 0 || strcmp(item->action, "UPDATE") == 0);
}

/* The same for the CMDB Instance API, which wants the source in the body (servicenow-api 3). */
void
servicenow_instance_call(const AdapterConnection *conn, const AdapterItem *item, const ServicenowPayload *payload,
						 ServicenowCall *call)
{
	StringInfoData body;
	StringInfoData url;

	initStringInfo(&body);
	appendStringInfoChar(&body, '{');
	json_append_member(&body, "source", conn->source_name);
	appendStringInfoString(&body, ",\"attributes\":{");
	servicenow_payload_append(&body, payload);
	appendStringInfoString(&body, "}}");

	initStringInfo(&url);
	appendStringInfoString(&url, "/api/now/cmdb/instance/");
	servicenow_query_encode(&url, item->external_table);
	if (item->external_id != NULL)
	{
		appendStringInfoChar(&url, '/');
		servicenow_query_encode(&url, item->external_id);
	}
	call->method = item->external_id != NULL ? "PATCH" : "POST";
	call->url = url.data;
	call->body = body.data;
}

/* ---------------------------------------------------------------- reading */

/*
 * Which layer of the table of outcomes a refusal falls under.  A creation may
 * be refused although the row was made, when the user may create but not read
 * (KB2697679): the item is tried again, which means that it is looked for
 * first, but not for ever.
 */
const char *
servicenow_table_layer(const AdapterItem *item)
{
	if (strcmp(item->action, "DELETE") == 0)
		return "removal";
	return servicenow_is_creation(item) && item->attempts <= CREATION_ATTEMPTS ? "creation" : "record";
}

static void
read_refusal(const AdapterItem *item, const ServicenowAnswer *answer, AdapterOutcome *outcome)
{
	adapter_fail(outcome, adapter_rule_kind(answer->rule), answer->error_class, answer->message);
	if (outcome->kind != OUTCOME_UNCHANGED)
		return;
	outcome->error_class = NULL;
	outcome->message = answer->rule->reason;
	outcome->operation = "delete";
	outcome->external_id = json_to_server(item->external_id);
}

/* Sets the identity of the record that the answer shows; false if it shows none. */
static bool
read_identity(const char *table, struct json_object *record, AdapterOutcome *outcome)
{
	const char *sys_id = servicenow_answer_value(record, "sys_id");
	const char *class_name = servicenow_answer_value(record, "sys_class_name");
	const char *number = servicenow_answer_value(record, "number");

	if (!servicenow_query_may_be_id(sys_id))
	{
		servicenow_answer_rule(outcome, "item", "NO_ANSWER", "the answer does not show the record");
		return false;
	}
	outcome->external_id = json_to_server(sys_id);
	outcome->external_table = servicenow_answer_table(class_name, table);
	if (number != NULL && number[0] != '\0')
		outcome->external_number = json_to_server(number);
	return true;
}

static void
read_remarks(const ServicenowPayload *payload, struct json_object *record, AdapterOutcome *outcome)
{
	if (payload->dropped != NULL)
		adapter_add_text(&outcome->message, adapter_text("never sent: %s", payload->dropped));
	outcome->not_taken = servicenow_answer_not_taken(payload, record, &outcome->message);
}

static void
read_record(const AdapterConnection *conn, const AdapterItem *item, const ServicenowPayload *payload,
			struct json_object *root, AdapterOutcome *outcome)
{
	struct json_object *record = json_member(root, "result");
	ServicenowPayload	fields = fields_of(item, payload);

	if (!read_identity(servicenow_payload_table(conn, item), record, outcome))
		return;
	outcome->kind = OUTCOME_DONE;
	outcome->operation = servicenow_is_creation(item) ? "create" : "update";
	read_remarks(&fields, record, outcome);
}

/*
 * What became of one write through the Table API; answer was read in the layer
 * of servicenow_table_layer(), raw is for the excerpt if there is no JSON in it.
 */
void
servicenow_table_read(const AdapterConnection *conn, const AdapterItem *item, const ServicenowPayload *payload,
					  const ServicenowAnswer *answer, struct json_object *raw, AdapterOutcome *outcome)
{
	outcome->excerpt = adapter_excerpt(answer->root != NULL ? answer->root : raw);
	if (answer->error_class != NULL)
		read_refusal(item, answer, outcome);
	else if (strcmp(item->action, "DELETE") == 0)
	{
		outcome->kind = OUTCOME_DONE;
		outcome->operation = "delete";
		outcome->external_id = json_to_server(item->external_id);
	}
	else
		read_record(conn, item, payload, answer->root, outcome);
}

/*
 * The call goes through the engine, which may have found a CI that was there:
 * that is no creation, and neither is what does not show how often it changed.
 */
static const char *
instance_operation(const AdapterItem *item, struct json_object *attributes)
{
	const char *changes = servicenow_answer_value(attributes, "sys_mod_count");

	if (!servicenow_is_creation(item))
		return "update";
	return changes != NULL && strcmp(changes, "0") == 0 ? "create" : "update";
}

/*
 * What became of one write through the CMDB Instance API.  A refusal of the
 * engine comes in its own envelope, whatever the status (servicenow-api 3).
 */
void
servicenow_instance_read(const AdapterItem *item, const ServicenowPayload *payload, const ServicenowAnswer *answer,
						 AdapterOutcome *outcome)
{
	struct json_object *refused = json_item(json_path(answer->root, "result.items"), 0);
	struct json_object *attributes = json_path(answer->root, "result.attributes");

	if (refused != NULL && servicenow_ire_errors(refused, outcome))
		outcome->excerpt = adapter_excerpt(refused);
	else if (answer->error_class != NULL)
		read_refusal(item, answer, outcome);
	else if (read_identity(item->external_table, attributes, outcome))
	{
		outcome->kind = OUTCOME_DONE;
		outcome->operation = instance_operation(item, attributes);
		read_remarks(payload, attributes, outcome);
	}
}
