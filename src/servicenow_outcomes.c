/*
 * servicenow_outcomes.c
 *	  What the adapter makes of everything that comes back: one table.
 *
 * The readers look their decisions up here and have no second opinion; SQL
 * prints the table, doc/outcomes.md is made of it.  What is not in it falls to
 * the class of its status (HTTP_4xx), then to the row "*" of its layer.
 *
 * Copyright (c) 2026, the pgsync_itsm authors; PostgreSQL licence
 */
#include "postgres.h"

#include "servicenow.h"

/* clang-format off */
const AdapterRule servicenow_rules[SERVICENOW_RULES] = {
	/* What the engine did with an item; the hottest rows stand first. */
	{"ire", "INSERT", "done", "the engine made it", NULL},
	{"ire", "NO_CHANGE", "unchanged", "it was so already", NULL},
	{"ire", "UPDATE", "done", "the engine found it and wrote it", NULL},
	{"ire", "UPDATE_WITH_UPGRADE", "done", "written, and its class is a more special one now", NULL},
	{"ire", "UPDATE_WITH_DOWNGRADE", "done", "written, and its class is a more general one now", NULL},
	{"ire", "UPDATE_WITH_SWITCH", "done", "written, and its class is another one now", NULL},
	{"ire", "INSERT_AS_PARTIAL", "dead", "the engine parked it as unfinished instead of making it", "See the identification rule of the class there."},
	{"ire", "INSERT_AS_INCOMPLETE", "dead", "the engine logged it as incomplete instead of making it", "See the identification rule of the class there."},
	{"ire", "UNKNOWN_OPERATION", "dead", "the engine says that it did something that was not asked", NULL},

	/* Codes of Identification and Reconciliation (servicenow-api 5.6). */
	{"ire", "IDENTIFICATION_RULE_MISSING", "dead", "the class has no active identification rule there", "Activate or make one there: CI Class Manager, the class, Identification Rule."},
	{"ire", "MISSING_MATCHING_ATTRIBUTES", "dead", "a column by which the class is identified is empty here", "Fill it here; the class's identification rule there names the columns."},
	{"ire", "INVALID_INPUT_DATA", "dead", "the data source is not registered, an id we know is gone there, or a relationship type does not exist there", "SELECT * FROM itsm_prepare_instance(connection_id);"},
	{"ire", "DUPLICATE_RELATIONSHIP_TYPES", "dead", "several relationship types there have this name", "Delete or rename all but one in cmdb_rel_type there."},
	{"ire", "DUPLICATE_PAYLOAD_RECORDS", "dead", "two records here are the same one to the identification rule", "Give them different names here."},
	{"ire", "MULTIPLE_DUPLICATE_RECORDS", "dead", "several records there match", "Merge them there, then publish again."},
	{"ire", "MULTI_MATCH", "dead", "several records there match", "Merge them there, then publish again."},
	{"ire", "REQUIRED_ATTRIBUTE_EMPTY", "dead", "a column is mandatory there and empty here", "Fill it here, or set default_owner: SELECT itsm_set(connection_id, 'default_owner', 'admin@example.com');"},
	{"ire", "MISSING_DEPENDENCY", "dead", "the class depends on another CI that is not in the payload", "See the dependent relationship rules of the class there."},
	{"ire", "METADATA_RULE_MISSING", "dead", "the class is a dependent one and has no rule for what it depends on", "See the dependent relationship rules of the class there."},
	{"ire", "MULTIPLE_DEPENDENCIES", "dead", "the class depends on one CI and got several", "See the dependent relationship rules of the class there."},
	{"ire", "ABANDONED", "retry", "given up for another item's sake: that one tells the reason", NULL},
	{"ire", "LOCK_TIMEOUT", "retry", "another process there writes the same record", "It is tried again by itself."},
	{"ire", "RECLASSIFICATION_NOT_ALLOWED", "dead", "the record there has another class and may not change it", "Change the sync scope back, or reclassify it there."},
	{"ire", "INSERT_NOT_ALLOWED_FOR_SOURCE", "dead", "a rule there forbids this data source to create records of the class", "Change the IRE data source rule there, or create the record there and publish again."},
	{"ire", "NO_CLASS_NAME_FOR_INDEPENDENT_CI", "dead", "the item names no class", "Report it: the adapter always names one."},
	{"ire", "IDENTIFICATION_RULE_FOR_LOOKUP_MISSING", "dead", "the class's rule asks for a look-up table that has no rule", "Repair the identification rule there."},
	{"ire", "IDENTIFICATION_RULE_FOR_RELATED_ITEM_MISSING", "dead", "the class's rule asks for a related table that has no rule", "Repair the identification rule there."},
	{"ire", "NO_LOOKUP_RULES_FOR_DEPENDENT_CI", "dead", "the class is a dependent one and may not be looked up", "Repair the identification rule there."},
	{"ire", "QUALIFICATION_LOOP", "dead", "the dependent relationship rules there run in a circle", "Repair the dependent relationship rules there."},
	{"ire", "TYPE_CONFLICT_IN_QUALIFICATION", "dead", "the dependent relationship rules there contradict each other", "Repair the dependent relationship rules there."},
	{"ire", "DUPLICATE_RELATED_PAYLOAD", "dead", "the engine found a related item twice in the payload", "Report it: the adapter sends none."},
	{"ire", "DUPLICATE_LOOKUP_PAYLOAD", "dead", "the engine found a look-up item twice in the payload", "Report it: the adapter sends none."},
	{"ire", "UNKNOWN_ERROR", "dead", "the engine refused it and gave no code", NULL},
	{"ire", "*", "dead", "the engine refused it with a code that is not known", NULL},

	/* No answer came. */
	{"transport", "RESOLVE", "retry", "the name of the platform cannot be resolved", "Is instance_url right? SELECT * FROM itsm_test_connection(connection_id);"},
	{"transport", "CONNECT", "retry", "nobody answers at the platform's address", "Is a firewall or a proxy in between? SELECT * FROM itsm_test_connection(connection_id);"},
	{"transport", "TLS", "retry", "no trusted TLS connection: certificate or version", "Name the authority's certificates in pgsync_itsm.ca_file."},
	{"transport", "TIMEOUT", "split", "no answer in time: the request may have been too much for one", NULL},
	{"transport", "BROKEN", "lookup_first", "the connection broke: a failover, or the load balancer cut what was silent for five minutes", NULL},
	{"transport", "TOO_LARGE", "split", "the answer is larger than pgsync_itsm.max_response_size", NULL},
	{"transport", "NOT_ALLOWED", "pause_connection", "the address is not one that this server may talk to", "See pgsync_itsm.allowed_hosts and instance_url."},
	{"transport", "*", "lookup_first", "no answer, for a reason that is not known", NULL},

	/* A request that carried one item only cannot be split. */
	{"alone", "TIMEOUT", "lookup_first", "no answer in time; it is not known what became of it", NULL},
	{"alone", "TOO_LARGE", "lookup_first", "the answer about a single record is larger than pgsync_itsm.max_response_size", "ALTER SYSTEM SET pgsync_itsm.max_response_size = '64MB'; SELECT pg_reload_conf();"},
	{"alone", "TRANSACTION_CANCELLED", "lookup_first", "the platform cancelled it: maximum execution time exceeded", NULL},
	{"alone", "HTTP_413", "dead", "the record is too large for the platform", "Shorten its texts here."},

	/* How the platform is, whatever was asked (servicenow-api 2.3, 8). */
	{"platform", "HTTP_2xx", "done", "answered; what counts is what it says about each item", NULL},
	{"platform", "HTTP_202", "retry_after", "turned away: another request of the same session is running", NULL},
	{"platform", "HTTP_3xx", "retry", "redirected elsewhere, which is not followed", "Is instance_url the instance's own address? SELECT * FROM itsm_test_connection(connection_id);"},
	{"platform", "HTTP_401", "reauthenticate", "credentials were refused", "SELECT * FROM itsm_test_connection(connection_id);"},
	{"platform", "HTTP_407", "retry", "a proxy wants credentials", "See pgsync_itsm.https_proxy."},
	{"platform", "HTTP_408", "lookup_first", "the platform waited too long for the request", NULL},
	{"platform", "HTTP_423", "retry", "what was asked for is locked there", NULL},
	{"platform", "HTTP_425", "retry", "the platform does not take it yet", NULL},
	{"platform", "HTTP_429", "retry_after", "a rate-limit rule holds us back", "It is tried again by itself."},
	{"platform", "SEMAPHORE", "retry_after", "too many requests at once: the queue of the platform is full", "It is tried again by itself, with fewer at once."},
	{"platform", "TRANSACTION_CANCELLED", "split", "the platform cancelled it: maximum execution time exceeded", NULL},
	{"platform", "HTTP_500", "lookup_first", "an error inside the platform, or cut by its load balancer after five minutes", NULL},
	{"platform", "HTTP_502", "lookup_first", "the load balancer reached no node: failover or maintenance", NULL},
	{"platform", "HTTP_503", "lookup_first", "out of service: maintenance, restart or overload", NULL},
	{"platform", "HTTP_504", "lookup_first", "the load balancer had no answer in time", NULL},
	{"platform", "HTTP_5xx", "lookup_first", "the platform or what stands before it failed", NULL},
	{"platform", "HIBERNATING", "retry", "the instance is hibernating: wake it by signing in", "Sign in at the instance once, then it goes on by itself."},
	{"platform", "NOT_JSON", "lookup_first", "a web page or a broken text instead of JSON: asleep, a login page, or cut short", NULL},
	{"platform", "BAD_RESPONSE", "lookup_first", "JSON that is no answer to what was asked", NULL},
	{"platform", "*", "lookup_first", "an answer that is not understood", NULL},

	/* A request that carries many items is refused. */
	{"request", "BAD_OPTIONS", "pause_connection", "the platform does not know the options of the call: a very old release", "SELECT itsm_set(connection_id, 'write_api', 'instance');"},
	{"request", "HTTP_400", "dead", "the request cannot be read: in halves, until the item to blame stands alone", NULL},
	{"request", "HTTP_403", "pause_connection", "the API refuses the user", "Give it the role itil, and a REST API access policy where an API key is used."},
	{"request", "HTTP_404", "pause_connection", "there is no such API: another address, or a very old release", "SELECT * FROM itsm_test_connection(connection_id);"},
	{"request", "HTTP_405", "pause_connection", "the API does not take the method: something else answers there", "SELECT * FROM itsm_test_connection(connection_id);"},
	{"request", "HTTP_406", "pause_connection", "the API does not speak JSON: something else answers there", "SELECT * FROM itsm_test_connection(connection_id);"},
	{"request", "HTTP_413", "split", "the request is too large", "SELECT itsm_set(connection_id, 'batch_bytes', '1000000');"},
	{"request", "HTTP_414", "split", "the address of the request is too long", NULL},
	{"request", "HTTP_415", "pause_connection", "the API does not take JSON: something else answers there", "SELECT * FROM itsm_test_connection(connection_id);"},
	{"request", "HTTP_4xx", "dead", "the request is refused: in halves, until the item to blame stands alone", NULL},

	/* A creation, or a removal, of one record. */
	{"creation", "HTTP_403", "lookup_first", "refused, but the record may have been made all the same: the user may not read what it makes", NULL},
	{"removal", "HTTP_404", "unchanged", "it was gone already", NULL},

	/* Parts of a Batch (servicenow-api 6). */
	{"batch", "UNSERVICED", "retry", "the batch's 30 s were over before its turn", "It is tried again by itself; that costs an attempt only if nothing of the batch was executed."},
	{"batch", "NO_ANSWER", "lookup_first", "the answer does not mention it", NULL},
	{"batch", "HTTP_413", "dead", "the record is too large for a part of a batch", "Shorten its texts here."},
	{"batch", "HTTP_429", "retry_after", "a rate-limit rule counts the parts of a batch and holds this one back", "It is tried again by itself."},
	{"batch", "SEMAPHORE", "retry_after", "too many requests at once: the queue of the platform is full", "It is tried again by itself, with fewer at once."},

	/* One record through the Table or the CMDB Instance API. */
	{"record", "HTTP_400", "dead", "the platform cannot read it, or has no such table", "SELECT * FROM itsm_test_connection(connection_id);"},
	{"record", "HTTP_403", "dead", "the integration user lacks a right", "Give it the role itil (contracts: contract_manager)."},
	{"record", "ABORTED", "dead", "a business rule, a data policy or a unique key there stopped it", "The message names the rule: change the record here or the rule there, then SELECT itsm_requeue(error_class => 'ABORTED');"},
	{"record", "HTTP_404", "dead", "it was deleted there, or may not be read", "Publish again: the plan shows it as deleted there."},
	{"record", "HTTP_405", "dead", "the API does not take the method", NULL},
	{"record", "HTTP_409", "dead", "it is in conflict with another record there", NULL},
	{"record", "HTTP_4xx", "dead", "the platform refuses it", NULL},

	/* Not sent, or not believed: our own classes. */
	{"item", "CHARGEBACK", "dead", "an internal chargeback contract never leaves", NULL},
	{"item", "BAD_PAYLOAD", "dead", "its values cannot be sent", "SELECT label, payload FROM integration_plan WHERE state = 'dead';"},
	{"item", "PAYLOAD_TOO_LARGE", "dead", "it is larger than the 5 MB that the platform takes", "Shorten its texts here."},
	{"item", "NO_TYPE", "dead", "the relationship's type is not known there", "See cmdb_rel_type there and the settings *_type of the connection."},
	{"item", "NO_END", "dead", "one of its ends is not known there", "Publish the end first: is it in scope?"},
	{"item", "END_MISSING", "retry", "its end is to be created and is not in the same request", NULL},
	{"item", "NO_CLASS", "dead", "it is not known which class to write to", "Publish again: the plan says which class."},
	{"item", "NO_ID", "dead", "it is not known which record there is meant", "Publish again."},
	{"item", "NO_KEY", "dead", "it may have been created, and has no key to look for it by", "Look for it there, then SELECT itsm_requeue(error_class => 'NO_KEY');"},
	{"item", "HIDDEN", "dead", "it may be there, but the user may not read all of its table", "Give the user the right to read what it creates, then SELECT itsm_requeue(error_class => 'HIDDEN');"},
	{"item", "TOO_MANY_ROWS", "dead", "too many records there are like it to tell which one it is", "Merge them there, then publish again."},
	{"item", "MERGED", "dead", "the platform took two records for one CI", "Give them different names here, then publish again."},
	{"item", "OTHER_RECORD", "dead", "the platform wrote to another record than was meant", "Look at both there: one is a duplicate of the other."},
	{"item", "NO_ANSWER", "lookup_first", "the answer does not say what became of it", NULL},
	{"item", "UNKNOWN_KIND", "dead", "a look-up of a kind that the adapter lacks", "Report it."},
	{"item", "NO_TARGET", "dead", "a look-up that does not say which class to look in", "Report it."},
	{"item", "*", "dead", "refused by the adapter for a reason that is not known", NULL},
};
/* clang-format on */

/* Where to look after a layer's own rows, the nearest first. */
static const char *const chains[][5] = {
	{"request", "platform"},
	{"creation", "record", "alone", "platform"},
	{"removal", "record", "alone", "platform"},
	{"record", "alone", "platform"},
};

/* The row of a layer with this very match, or NULL. */
static const AdapterRule *
row_of(const char *layer, const char *match)
{
	for (int i = 0; i < SERVICENOW_RULES; i++)
	{
		if (strcmp(servicenow_rules[i].match, match) == 0 && strcmp(servicenow_rules[i].layer, layer) == 0)
			return &servicenow_rules[i];
	}
	return NULL;
}

static const AdapterRule *
first_row(const char *const *layers, const char *match)
{
	const AdapterRule *rule = NULL;

	for (int i = 0; rule == NULL && i < (int) lengthof(chains[0]) && layers[i] != NULL; i++)
		rule = row_of(layers[i], match);
	return rule;
}

/*
 * The rule for what came back, static; NULL only of "alone" and "batch", which
 * hold nothing but exceptions from other layers.  Never throws.
 */
const AdapterRule *
servicenow_rule(const char *layer, const char *match)
{
	const char *const  own[lengthof(chains[0])] = {layer};
	const char *const *layers = own;
	const AdapterRule *rule;
	char			   status_class[sizeof("HTTP_nxx")] = "HTTP_nxx";

	for (int i = 0; i < (int) lengthof(chains); i++)
	{
		if (strcmp(chains[i][0], layer) == 0)
			layers = chains[i];
	}
	rule = first_row(layers, match);
	if (rule == NULL && strlen(match) == 8 && strncmp(match, "HTTP_", 5) == 0)
	{
		status_class[5] = match[5];
		rule = first_row(layers, status_class);
	}
	return rule != NULL ? rule : first_row(layers, "*");
}
