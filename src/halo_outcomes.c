/*
 * halo_outcomes.c
 *	  What the adapter makes of everything that comes back: one table.
 *
 * The readers look their decisions up here and have no second opinion.  What is
 * not in it falls to the class of its status (HTTP_4xx), then to the row "*" of
 * its layer (haloitsm-api 5).
 *
 * Copyright (c) 2026, the pgsync_itsm authors; PostgreSQL licence
 */
#include "postgres.h"

#include "halo.h"

/* clang-format off */
const AdapterRule halo_rules[HALO_RULES] = {
	/* No answer came. */
	{"transport", "RESOLVE", "retry", "the name of the platform cannot be resolved", "Is the resource server right? SELECT * FROM itsm_test_connection(connection_id);"},
	{"transport", "CONNECT", "retry", "nobody answers at the platform's address", "Is a firewall or a proxy in between? SELECT * FROM itsm_test_connection(connection_id);"},
	{"transport", "TLS", "retry", "no trusted TLS connection: certificate or version", "Name the authority's certificates in pgsync_itsm.ca_file."},
	{"transport", "TIMEOUT", "lookup_first", "no answer in time; it is not known what became of it", NULL},
	{"transport", "BROKEN", "lookup_first", "the connection broke; it is not known what became of it", NULL},
	{"transport", "TOO_LARGE", "lookup_first", "the answer is larger than pgsync_itsm.max_response_size", "ALTER SYSTEM SET pgsync_itsm.max_response_size = '64MB'; SELECT pg_reload_conf();"},
	{"transport", "NOT_ALLOWED", "pause_connection", "the address is not one that this server may talk to", "See pgsync_itsm.allowed_hosts and the addresses of the connection."},
	{"transport", "*", "lookup_first", "no answer, for a reason that is not known", NULL},

	/* How the platform is, whatever was asked (haloitsm-api 5.2). */
	{"platform", "HTTP_2xx", "done", "answered; what counts is what it says about the record", NULL},
	{"platform", "HTTP_3xx", "retry", "redirected elsewhere, which is not followed", "Is the resource server the address that ends in /api? SELECT * FROM itsm_test_connection(connection_id);"},
	{"platform", "HTTP_401", "reauthenticate", "the token was refused", "SELECT * FROM itsm_test_connection(connection_id);"},
	{"platform", "HTTP_403", "pause_connection", "a scope of the API application, or a right of the agent it logs in as, is missing", "SELECT * FROM itsm_test_connection(connection_id); it names the scopes. What is not to be published is left out by a filter: SELECT itsm_set(connection_id, 'filter.contract', 'false');"},
	{"platform", "HTTP_407", "retry", "a proxy wants credentials", "See pgsync_itsm.https_proxy."},
	{"platform", "HTTP_408", "lookup_first", "the platform waited too long for the request", NULL},
	{"platform", "HTTP_415", "pause_connection", "the platform does not take JSON: something else answers there", "SELECT * FROM itsm_test_connection(connection_id);"},
	{"platform", "HTTP_429", "retry_after", "the rate limit holds us back", "It is tried again by itself; the setting rate_limit keeps within it."},
	{"platform", "HTTP_500", "lookup_first", "an error inside the platform", NULL},
	{"platform", "HTTP_502", "lookup_first", "what stands before the platform did not reach it", NULL},
	{"platform", "HTTP_503", "lookup_first", "out of service: maintenance, restart or overload", NULL},
	{"platform", "HTTP_504", "lookup_first", "the gateway had no answer in time", NULL},
	{"platform", "HTTP_5xx", "lookup_first", "the platform or what stands before it failed", NULL},
	{"platform", "NOT_JSON", "lookup_first", "a web page or a broken text instead of JSON", NULL},
	{"platform", "BAD_RESPONSE", "lookup_first", "JSON that is no answer to what was asked", NULL},
	{"platform", "*", "lookup_first", "an answer that is not understood", NULL},

	/* A question that is no record's. */
	{"question", "HTTP_400", "dead", "the platform does not take the question", "SELECT * FROM itsm_test_connection(connection_id);"},
	{"question", "HTTP_404", "pause_connection", "there is no such resource: another address, or a very old build", "Is the resource server the address that ends in /api? SELECT * FROM itsm_test_connection(connection_id);"},
	{"question", "HTTP_4xx", "dead", "the platform refuses the question", "SELECT * FROM itsm_test_connection(connection_id);"},

	/* A new record. */
	{"creation", "HTTP_404", "pause_connection", "there is no such resource: another address, or a very old build", "Is the resource server the address that ends in /api? SELECT * FROM itsm_test_connection(connection_id);"},

	/* A record that is gone. */
	{"removal", "HTTP_404", "unchanged", "it was gone already", NULL},

	/* One record (haloitsm-api 5.3). */
	{"record", "HTTP_400", "dead", "the platform refuses its values", "The message names the reason: change the record here or the rule there, then SELECT itsm_requeue(error_class => 'HTTP_400');"},
	{"record", "NOT_UNIQUE", "dead", "the platform has another record with this name or tag", "SELECT itsm_match(namespace_id); or give it another name here."},
	{"record", "DATABASE", "dead", "the platform's database refused it: most often a value is missing that its table needs", "The message names the column: map it with itsm_set_mapping(), then SELECT itsm_requeue(error_class => 'DATABASE');"},
	{"record", "HTTP_404", "dead", "it was deleted there, or the agent may not see it", "Publish again: the plan shows it as deleted there."},
	{"record", "HTTP_405", "dead", "the platform does not take the method", NULL},
	{"record", "HTTP_409", "dead", "it is in conflict with another record there", NULL},
	{"record", "HTTP_413", "dead", "the record is too large for the platform", "Shorten its texts here."},
	{"record", "HTTP_4xx", "dead", "the platform refuses it", NULL},

	/* Relations, which are a part of their parent (haloitsm-api 2.7). */
	{"relation", "OTHER_KIND", "dead", "the two are related there already, by somebody and in another kind; a pair can have one relation", "Remove that relation there, or set the kind to it (settings *_type)."},
	{"relation", "NOT_LINKED", "dead", "the platform said yes, and the relation is not there: the build does not know how it was written", "SELECT itsm_set(connection_id, 'relation_writes', 'list'); or 'add'; then SELECT itsm_requeue(error_class => 'NOT_LINKED');"},
	{"relation", "NOT_UNLINKED", "dead", "the platform said yes, and the relation is still there", "Remove it there; the setting relation_writes says how it is written."},
	{"relation", "UNLINKABLE", "dead", "the platform cannot relate these two", NULL},

	/* Not sent, or not believed: our own classes. */
	{"item", "CHARGEBACK", "dead", "an internal chargeback contract never leaves", NULL},
	{"item", "BAD_PAYLOAD", "dead", "its values cannot be sent", "SELECT label, payload FROM integration_plan WHERE state = 'dead';"},
	{"item", "PAYLOAD_TOO_LARGE", "dead", "it is larger than 5 MB", "Shorten its texts here."},
	{"item", "NO_TYPE", "dead", "it is not known which asset type there it is to be", "SELECT * FROM itsm_halo_setup(connection_id, apply => true);"},
	{"item", "NO_PLACE", "dead", "it is not known which client and site there it belongs to", "SELECT * FROM itsm_test_connection(connection_id); it looks for the settings halo_client and halo_site."},
	{"item", "NO_CATEGORY", "dead", "it is not known which service category there it belongs to", "SELECT * FROM itsm_test_connection(connection_id); it looks for the setting service_category."},
	{"item", "NO_CLASS", "dead", "it is not known which resource to write to", "Publish again: the plan says which class."},
	{"item", "NO_END", "dead", "one of its ends is not known there", "Publish the end first: is it in scope?"},
	{"item", "NO_ID", "dead", "it is not known which record there is meant", "Publish again."},
	{"item", "NO_KEY", "dead", "it may have been created, and has no key to look for it by", "Look for it there, then SELECT itsm_requeue(error_class => 'NO_KEY');"},
	{"item", "OTHER_RECORD", "dead", "the platform wrote to another record than was meant", "Look at both there."},
	{"item", "NO_ANSWER", "lookup_first", "the answer does not say what became of it", NULL},
	{"item", "INCOMPLETE", "lookup_first", "a list did not show as many records as it counts: what is not in it may be there all the same", "If it stays: does the agent of the API application see all clients and asset groups?"},
	{"item", "MANY", "lookup_first", "the platform answered with several records to one", NULL},
	{"item", "UNKNOWN_KIND", "dead", "a look-up of a kind that the adapter lacks", "Report it."},
	{"item", "NO_TARGET", "dead", "a look-up that does not say what to look in", "Report it."},
	{"item", "*", "dead", "refused by the adapter for a reason that is not known", NULL},
};
/* clang-format on */

/* Where to look after a layer's own rows, the nearest first. */
static const char *const chains[][4] = {
	{"question", "transport", "platform"},			 {"creation", "record", "transport", "platform"},
	{"removal", "record", "transport", "platform"},	 {"record", "transport", "platform"},
	{"relation", "record", "transport", "platform"},
};

static const AdapterRule *
row_of(const char *layer, const char *match)
{
	for (int i = 0; i < HALO_RULES; i++)
	{
		if (strcmp(halo_rules[i].layer, layer) == 0 && strcmp(halo_rules[i].match, match) == 0)
			return &halo_rules[i];
	}
	return NULL;
}

static const AdapterRule *
first_row(const char *const *layers, const char *match)
{
	const AdapterRule *rule = NULL;

	for (int i = 0; rule == NULL && i < 4 && layers[i] != NULL; i++)
		rule = row_of(layers[i], match);
	return rule;
}

/*
 * The line for an error class or a status (HTTP_nnn); never NULL.  A status
 * that has no line of its own is looked for as HTTP_nxx.
 */
const AdapterRule *
halo_rule(const char *layer, const char *match)
{
	const char *const  own[4] = {layer};
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
