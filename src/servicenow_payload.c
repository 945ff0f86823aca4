/*
 * servicenow_payload.c
 *	  What an item wants to write, and what must never be written.
 *
 * The last check before data leaves: whatever the planner decided, an internal
 * contract, model_id and model_category do not get past this file.
 *
 * Copyright (c) 2026, the pgsync_itsm authors; PostgreSQL licence
 */
#include "postgres.h"

#include <json-c/json.h>

#include "servicenow.h"

/* Never ours to write: assets would be made, or the platform keeps them itself (servicenow-api 5.2, 10.1). */
static const char *const never_sent[] = {"model_id", "model_category", "sys_id", "sys_class_name"};
static const char *const never_sent_prefixes[] = {"sys_created_", "sys_updated_", "sys_mod_count", "sys_domain"};

/* What a Batch takes of one part of it, in bytes (servicenow-api 6). */
#define MAX_PAYLOAD 5000000

static bool
is_never_sent(const char *name)
{
	for (int i = 0; i < (int) lengthof(never_sent); i++)
	{
		if (strcmp(name, never_sent[i]) == 0)
			return true;
	}
	for (int i = 0; i < (int) lengthof(never_sent_prefixes); i++)
	{
		if (strncmp(name, never_sent_prefixes[i], strlen(never_sent_prefixes[i])) == 0)
			return true;
	}
	return false;
}

static void
refuse(ServicenowPayload *payload, const char *error_class, const char *message)
{
	if (payload->refusal_class != NULL)
		return;
	payload->refusal_class = error_class;
	payload->refusal = message;
}

/* The value of one member as text; NULL (and a refusal) if it is an object or an array. */
static const char *
member_text(ServicenowPayload *payload, const char *name, struct json_object *value)
{
	if (value == NULL)
		return "";
	if (json_is_object(value) || json_is_array(value))
	{
		refuse(payload, "BAD_PAYLOAD", psprintf("field %s is not a plain value", name));
		return NULL;
	}
	return json_value_text(value);
}

static void
drop(ServicenowPayload *payload, const char *name)
{
	payload->dropped = payload->dropped == NULL ? name : psprintf("%s, %s", payload->dropped, name);
}

/* Members that begin with '_' tell us something and do not travel. */
static bool
travels(ServicenowPayload *payload, const char *name)
{
	if (name[0] == '_')
		return false;
	if (!is_never_sent(name))
		return true;
	drop(payload, name);
	return false;
}

static void
add_field(ServicenowPayload *payload, const char *name, const char *value)
{
	payload->fields[payload->nfields].name = name;
	payload->fields[payload->nfields++].value = value;
}

static void
read_members(ServicenowPayload *payload, struct json_object *root, bool clear)
{
	json_object_object_foreach (root, name, value)
	{
		const char *text = travels(payload, name) ? member_text(payload, name, value) : NULL;

		if (text != NULL)
			add_field(payload, name, clear ? "" : text);
	}
}

/* Returns what the payload says of its being internal. */
static const char *
read_flat(ServicenowPayload *payload, const JsonFlat *flat, bool clear)
{
	const char *internal = NULL;

	payload->fields = palloc(sizeof(ServicenowField) * (flat->n + 1));
	for (int i = 0; i < flat->n; i++)
	{
		if (travels(payload, flat->names[i]))
			add_field(payload, flat->names[i], clear || flat->values[i] == NULL ? "" : flat->values[i]);
		else if (strcmp(flat->names[i], "_is_internal") == 0)
			internal = flat->values[i];
	}
	return internal;
}

/* Only what is known not to be internal may leave; silence is not knowledge. */
static void
check_chargeback(const AdapterItem *item, ServicenowPayload *payload, const char *internal)
{
	if (strcmp(item->entity_type, "contract") != 0 ||
		(strcmp(item->action, "CREATE") != 0 && strcmp(item->action, "UPDATE") != 0))
		return;
	if (internal == NULL)
		refuse(payload, "CHARGEBACK", "the contract does not say that it is not an internal chargeback");
	else if (strcmp(internal, "false") != 0)
		refuse(payload, "CHARGEBACK", "the contract is an internal chargeback, which never leaves the database");
}

/* Does the item say which record there it is about, where that must be known? */
static bool
has_target(const AdapterConnection *conn, const AdapterItem *item)
{
	if (strcmp(item->action, "CREATE") == 0 || item->external_id != NULL)
		return true;
	return strcmp(item->action, "UPDATE") == 0 && servicenow_is_ci(item->entity_type) && item->native_key != NULL &&
		   strcmp(conn->write_api, "ire") == 0;
}

/* Is the end known there, or at least by its key, where an item of the same call may make it? */
static bool
has_end(const char *external_id, const char *native_key, bool inside)
{
	return external_id != NULL || (inside && native_key != NULL);
}

static void
check_ends(const AdapterConnection *conn, const AdapterItem *item, ServicenowPayload *payload)
{
	bool		relation = servicenow_is_relation(item->entity_type);
	bool		inside = servicenow_relation_by_ire(conn, item->entity_type);
	const char *type = strcmp(conn->write_api, "ire") == 0 ? item->rel_type : item->rel_type_id;

	if (strcmp(item->action, "CREATE") != 0 || (!relation && strcmp(item->entity_type, "covers") != 0))
		return;
	if (relation && type == NULL)
		refuse(payload, "NO_TYPE", "the relationship's type is not known there");
	if (!has_end(item->parent_external_id, item->parent_native_key, inside) ||
		!has_end(item->child_external_id, item->child_native_key, inside))
		refuse(payload, "NO_END", "one of its ends is not known there");
}

static void
check_addresses(const AdapterConnection *conn, const AdapterItem *item, ServicenowPayload *payload)
{
	check_ends(conn, item, payload);
	if (servicenow_payload_table(conn, item) == NULL)
		refuse(payload, "NO_CLASS", "it is not known which class to write to");
	if (!has_target(conn, item))
		refuse(payload, "NO_ID", "it is not known which record there is meant");
}

/*
 * Reads what the item wants to write.  Names and values stay valid until the
 * current memory context goes.  Never throws for the payload's content.
 */
void
servicenow_payload_open(const AdapterConnection *conn, const AdapterItem *item, ServicenowPayload *payload)
{
	JsonDoc	   *doc;
	JsonFlat	flat;
	const char *reason = NULL;
	bool		clear = strcmp(item->action, "CLEAR") == 0;
	size_t		length;

	memset(payload, 0, sizeof(*payload));
	check_addresses(conn, item, payload);
	if (item->payload == NULL || strcmp(item->action, "DELETE") == 0)
	{
		check_chargeback(item, payload, NULL);
		return;
	}
	length = strlen(item->payload);
	if (length > MAX_PAYLOAD)
		refuse(payload, "PAYLOAD_TOO_LARGE", "its values are larger than 5 MB");
	if (json_flat_parse(item->payload, length, &flat))
	{
		check_chargeback(item, payload, read_flat(payload, &flat, clear));
		return;
	}
	doc = json_doc_parse(item->payload, length, &reason);
	if (doc == NULL || !json_is_object(doc->root))
	{
		refuse(payload, "BAD_PAYLOAD", psprintf("the payload cannot be sent: %s", reason ? reason : "it is no object"));
		return;
	}
	check_chargeback(item, payload, json_scalar(doc->root, "_is_internal"));
	payload->fields = palloc(sizeof(ServicenowField) * (json_object_object_length(doc->root) + 1));
	read_members(payload, doc->root, clear);
}

/* Is the item refused?  Then its outcome is set. */
bool
servicenow_payload_refused(const ServicenowPayload *payload, AdapterOutcome *outcome)
{
	if (payload->refusal_class == NULL)
		return false;
	servicenow_answer_rule(outcome, "item", payload->refusal_class, adapter_text("not sent: %s", payload->refusal));
	return true;
}

/* The table to write to: the item's own, else the usual one of its entity type; NULL if there is none. */
const char *
servicenow_payload_table(const AdapterConnection *conn, const AdapterItem *item)
{
	static const struct
	{
		const char *entity_type;
		const char *table;
	} usual[] = {
		{"company", "core_company"},
		{"contact", "sys_user"},
		{"contract", "ast_contract"},
		{"covers", "contract_rel_ci"},
	};

	if (servicenow_is_relation(item->entity_type))
		return "cmdb_rel_ci";
	if (item->external_table != NULL && item->external_table[0] != '\0')
		return item->external_table;
	if (strcmp(item->entity_type, "software_product") == 0)
		return adapter_setting(conn, "product_model_table");
	for (int i = 0; i < (int) lengthof(usual); i++)
	{
		if (strcmp(item->entity_type, usual[i].entity_type) == 0)
			return usual[i].table;
	}
	return NULL;
}

/* The value to be written into a field; NULL if it is not in the payload. */
const char *
servicenow_payload_value(const ServicenowPayload *payload, const char *name)
{
	for (int i = 0; i < payload->nfields; i++)
	{
		if (strcmp(payload->fields[i].name, name) == 0)
			return payload->fields[i].value;
	}
	return NULL;
}

/* Appends the fields as members to an object that is open in buf. */
void
servicenow_payload_append(StringInfo buf, const ServicenowPayload *payload)
{
	for (int i = 0; i < payload->nfields; i++)
		json_append_member(buf, payload->fields[i].name, payload->fields[i].value);
}
