/*
 * halo_check.c
 *	  What the connection test asks a HaloITSM tenant, and how the answers read
 *	  (haloitsm-api 7).
 *
 * Reading can be tried, writing cannot: the scopes that were granted are all that
 * is known of it before the first write.  What new records need, a client, its
 * site and a category of services, is looked up here and kept with the connection.
 *
 * Pure: no SPI, no sockets.  Texts are UTF-8.
 *
 * Copyright (c) 2026, the pgsync_itsm authors; PostgreSQL licence
 */
#include "postgres.h"

#include <json-c/json.h>

#include "check.h"
#include "halo.h"

/* ------------------------------------------------------------ small helpers */

static const char *
setting(CheckContext *context, const char *name)
{
	const char *value = adapter_setting(context->conn, name);

	return value ? value : "";
}

static bool
get(AdapterRequest *request, char *path)
{
	halo_request_get(request, path);
	return true;
}

/* What an answer that is no success says, bounded. */
static const char *
said(const AdapterResponse *response, const HaloAnswer *answer)
{
	const char *text;

	if (response->status == 0)
		return response->transport_message ? response->transport_message : "no answer";
	text = halo_answer_text(response, answer->root);
	if (response->content_type != NULL && pg_strncasecmp(response->content_type, "text/html", 9) == 0)
		text = "a web page came back instead of JSON";
	return psprintf("HTTP %d%s%s", response->status, text ? ": " : "",
					text ? json_excerpt(text, strlen(text), 300) : "");
}

/* --------------------------------------------------------- who answers there */

static bool
build_authinfo(CheckContext *context, AdapterRequest *request)
{
	return get(request, pstrdup("/authinfo"));
}

/* The host of an address, for comparing and for a name. */
static const char *
host_of(const char *url)
{
	const char *start = strstr(url, "://");

	start = start ? start + 3 : url;
	return pnstrdup(start, strcspn(start, "/?#"));
}

static const char *
tenant_of(const char *token_address)
{
	const char *at = strstr(token_address, "?tenant=");

	return at ? at + strlen("?tenant=") : "";
}

/* On premises there is no tenant; a hosted one gives no token without its name (haloitsm-api 1.2, 1.3). */
static void
compare_authinfo(CheckContext *context, const char *auth_url, const char *tenant)
{
	const char *ours = tenant_of(context->token_address);
	const char *detail = psprintf("authorisation server %s%s%s", json_excerpt(auth_url, strlen(auth_url), 200),
								  tenant[0] ? ", tenant " : ", no tenant", json_excerpt(tenant, strlen(tenant), 60));

	context->instance_name = tenant[0] ? tenant : host_of(auth_url);
	check_report(context, "instance", CHECK_OK, context->instance_name, NULL);
	if (strcmp(host_of(auth_url), host_of(context->token_address)) != 0)
		check_report(context, "authinfo", CHECK_UNKNOWN,
					 psprintf("%s; the token is asked for at %s", detail, host_of(context->token_address)),
					 "If no token is granted: connect again with that authorisation server.");
	else if (tenant[0] != '\0' && pg_strcasecmp(tenant, ours) != 0)
		check_report(context, "authinfo", CHECK_UNKNOWN,
					 psprintf("%s; this connection %s", detail, ours[0] ? "names another one" : "names none"),
					 "If no token is granted: connect again with that tenant.");
	else
		check_report(context, "authinfo", CHECK_OK, detail, NULL);
}

static void
read_authinfo(CheckContext *context, const AdapterResponse *response)
{
	HaloAnswer	answer;
	const char *auth_url;
	const char *tenant;

	halo_answer_open(response, "question", &answer);
	auth_url = answer.error_class == NULL ? json_text(answer.root, "auth_url") : NULL;
	if (auth_url != NULL)
	{
		tenant = json_text(answer.root, "tenant_id");
		compare_authinfo(context, auth_url, tenant ? tenant : "");
		return;
	}
	check_report(context, "authinfo", CHECK_FAILED, said(response, &answer),
				 "Is the resource server the address that ends in /api, as Halo shows it under Configuration > "
				 "Integrations > API?");
}

/* ------------------------------------------------------------------ version */

static bool
build_version(CheckContext *context, AdapterRequest *request)
{
	return get(request, pstrdup("/InstanceInfo"));
}

/* "2.236.133": the number in the middle goes up from month to month. */
static int64
build_number(const char *version)
{
	const char *dot = version ? strchr(version, '.') : NULL;

	return dot ? strtoll(dot + 1, NULL, 10) : 0;
}

static void
read_version(CheckContext *context, const AdapterResponse *response)
{
	HaloAnswer	answer;
	const char *version;
	const char *name;

	halo_answer_open(response, "question", &answer);
	version = answer.error_class == NULL ? json_scalar(answer.root, "app_version") : NULL;
	if (version == NULL)
	{
		check_report(context, "version", CHECK_UNKNOWN, said(response, &answer),
					 "Older builds do not tell it. How relations are written is the setting relation_writes then.");
		return;
	}
	name = json_scalar(answer.root, "app_name");
	check_keep_id(context, "build", build_number(version));
	check_report(context, "version", CHECK_OK,
				 psprintf("%s %s", name ? json_excerpt(name, strlen(name), 60) : "Halo",
						  json_excerpt(version, strlen(version), 60)),
				 NULL);
}

/* --------------------------------------------------- may it be read, and written */

/* A row for each resource that is read or written; scope NULL: there is none named after it (haloitsm-api 1.4). */
typedef struct Trial
{
	const char *class_name;
	const char *check;
	const char *scope;
	const char *area;	 /* access level of an agent */
	const char *setting; /* only if it has this value; NULL: always */
	const char *value;
} Trial;

static const Trial trials[] = {
	{"business_application", "assets", "assets", "Assets", NULL, NULL},
	{"service", "services", NULL, "Services", NULL, NULL},
	{"supplier", "suppliers", "suppliers", "Suppliers", NULL, NULL},
	{"supplier_contract", "supplier contracts", "contracts", "Supplier Contracts", NULL, NULL},
	{"user", "users", "customers", "Users", NULL, NULL},
	{"agent", "agents", NULL, "Agents", NULL, NULL},
	{"software_licence", "software licences", "softwarelicensing", "Software Licences", "software_as", "licence"},
};

static bool
build_trial(CheckContext *context, AdapterRequest *request)
{
	HaloFacts *facts = context->facts;

	while (facts->trial < (int) lengthof(trials) && trials[facts->trial].setting != NULL &&
		   strcmp(setting(context, trials[facts->trial].setting), trials[facts->trial].value) != 0)
		facts->trial++;
	if (facts->trial >= (int) lengthof(trials))
		return false;
	return get(request, psprintf("%s?pageinate=true&page_size=1&page_no=1",
								 halo_resource(trials[facts->trial].class_name)->path));
}

static const char *
trial_hint(const Trial *trial, int status)
{
	if (status == 403 && trial->scope != NULL)
		return psprintf(
			"The API application needs the scopes read:%s and edit:%s (or all), and its agent the access level "
			"Read and Modify for %s.",
			trial->scope, trial->scope, trial->area);
	if (status == 403)
		return psprintf(
			"The agent of the API application needs the access level Read and Modify for %s; a scope of that "
			"name does not exist, the scope all includes it.",
			trial->area);
	if (status == 404)
		return "Is the resource server the address that ends in /api?";
	return "Try again later.";
}

static void
read_trial(CheckContext *context, const AdapterResponse *response)
{
	HaloFacts		   *facts = context->facts;
	const Trial		   *trial = &trials[facts->trial++];
	HaloAnswer			answer;
	int64				total;
	struct json_object *rows;

	halo_answer_open(response, "question", &answer);
	rows = answer.error_class == NULL ? halo_answer_rows(halo_resource(trial->class_name), answer.root, &total) : NULL;
	if (rows == NULL)
		check_report(context, trial->check, CHECK_FAILED, said(response, &answer), trial_hint(trial, response->status));
	else if (total < 0)
		check_report(context, trial->check, CHECK_OK, "readable", NULL);
	else
		check_report(context, trial->check, CHECK_OK, psprintf("readable, " INT64_FORMAT " there", total), NULL);
}

/* Is a word among those of a list, with blanks between them? */
static bool
is_listed(const char *list, const char *word)
{
	size_t length = strlen(word);

	for (const char *at = list; (at = strstr(at, word)) != NULL; at += length)
	{
		if ((at == list || at[-1] == ' ' || at[-1] == ',') &&
			(at[length] == '\0' || at[length] == ' ' || at[length] == ','))
			return true;
	}
	return false;
}

/* Asks nothing: what the token is good for was told with it. */
static bool
report_scopes(CheckContext *context, AdapterRequest *request)
{
	const char *granted = context->granted_scope;

	for (int i = 0; i < (int) lengthof(trials); i++)
	{
		const Trial *trial = &trials[i];
		const char	*name;

		if (trial->scope == NULL ||
			(trial->setting != NULL && strcmp(setting(context, trial->setting), trial->value) != 0))
			continue;
		name = psprintf("scope edit:%s", trial->scope);
		if (granted == NULL)
			check_report(context, name, CHECK_UNKNOWN, "the platform does not say what the token is good for",
						 "The first write shows it.");
		else if (is_listed(granted, "all") || is_listed(granted, "all:standard") ||
				 is_listed(granted, psprintf("edit:%s", trial->scope)))
			check_report(context, name, CHECK_OK, "granted; whether the agent may write shows at the first write",
						 NULL);
		else
			check_report(
				context, name, CHECK_FAILED,
				psprintf("not granted, only: %s", json_excerpt(granted, strlen(granted), 200)),
				"Tick it in the API application, and ask for it: SELECT itsm_set(connection_id, 'token_scope', "
				"'read:assets edit:assets read:customers edit:customers read:suppliers edit:suppliers "
				"read:contracts edit:contracts');");
	}
	return false;
}

static void
read_nothing(CheckContext *context, const AdapterResponse *response)
{
}

/* ------------------------------------------------------------- asset types */

static bool
build_types(CheckContext *context, AdapterRequest *request)
{
	return get(request, pstrdup("/AssetType"));
}

static bool
has_id(struct json_object *rows, int64 id)
{
	for (int i = 0; i < json_count(rows); i++)
	{
		if (json_int(json_item(rows, i), "id", 0) == id)
			return true;
	}
	return false;
}

static void
read_types(CheckContext *context, const AdapterResponse *response)
{
	static const char *const classes[] = {"business_application", "application_instance", "software"};
	bool					 software = strcmp(setting(context, "software_as"), "asset") == 0;
	HaloAnswer				 answer;
	StringInfoData			 missing;

	halo_answer_open(response, "question", &answer);
	if (!json_is_array(answer.root))
	{
		check_report(context, "asset types", CHECK_FAILED, said(response, &answer),
					 "The scope read:assets is needed, and the agent's access level for Assets.");
		return;
	}
	initStringInfo(&missing);
	for (int i = 0; i < (software ? 3 : 2); i++)
	{
		int64 id = halo_known_id(context->conn, halo_resource(classes[i])->type);

		if (id == 0 || !has_id(answer.root, id))
			appendStringInfo(&missing, "%s%s", missing.len > 0 ? ", " : "", classes[i]);
	}
	if (missing.len == 0)
		check_report(context, "asset types", CHECK_OK, "as itsm_halo_setup() left them", NULL);
	else
		check_report(context, "asset types", CHECK_FAILED, psprintf("not set up: %s", missing.data),
					 "SELECT * FROM itsm_halo_setup(connection_id); and then with apply => true");
}

/* ---------------------------------------------- client, site, service category */

typedef struct Place
{
	const char *setting;
	const char *check;
	const char *kept; /* name of the id */
	const char *path;
	const char *rows; /* NULL: a bare array */
} Place;

static const Place client_place = {"halo_client", "client", "client", "/Client", "clients"};
static const Place site_place = {"halo_site", "site", "site", "/Site", "sites"};
static const Place category_place = {"service_category", "service category", "category", "/ServiceCategory", NULL};

static bool
is_number(const char *text)
{
	return text[0] != '\0' && strlen(text) < 10 && strspn(text, "0123456789") == strlen(text);
}

/* First five names, for those who have to choose. */
static const char *
some_names(struct json_object *rows)
{
	StringInfoData names;

	initStringInfo(&names);
	for (int i = 0; i < json_count(rows) && i < 5; i++)
	{
		const char *name = json_scalar(json_item(rows, i), "name");

		if (name != NULL)
			appendStringInfo(&names, "%s\"%s\"", names.len > 0 ? ", " : "", json_excerpt(name, strlen(name), 60));
	}
	return names.len > 0 ? names.data : "none";
}

/* The row that is meant, by id or by name; NULL if there is none, or several. */
static struct json_object *
find_place(struct json_object *rows, const char *wanted, int *matches)
{
	struct json_object *found = NULL;

	*matches = 0;
	for (int i = 0; i < json_count(rows); i++)
	{
		struct json_object *row = json_item(rows, i);
		const char		   *name = json_scalar(row, "name");

		if (is_number(wanted) ? json_int(row, "id", 0) == strtoll(wanted, NULL, 10)
							  : name != NULL && halo_same_name(name, wanted))
		{
			found = row;
			(*matches)++;
		}
	}
	return *matches == 1 ? found : NULL;
}

static void
place_not_found(CheckContext *context, const Place *place, struct json_object *rows, int matches)
{
	const char *wanted = setting(context, place->setting);
	const char *hint = psprintf("SELECT itsm_set(connection_id, '%s', '...'); with the id or the name of one of: %s",
								place->setting, some_names(rows));

	check_keep_id(context, place->kept, 0);
	if (wanted[0] == '\0')
		check_report(context, place->check, CHECK_FAILED, "not chosen", hint);
	else if (matches > 1)
		check_report(context, place->check, CHECK_FAILED, psprintf("%d there are called \"%s\"", matches, wanted),
					 psprintf("Give its id: SELECT itsm_set(connection_id, '%s', '...');", place->setting));
	else
		check_report(context, place->check, CHECK_FAILED, psprintf("none there is \"%s\"", wanted), hint);
}

/* A list of one; it lasts as long as the look, as all that was read. */
static struct json_object *
as_list(struct json_object *row)
{
	JsonDoc			   *doc = json_doc_new();
	struct json_object *list = json_object_new_array();

	json_object_array_add(list, json_object_get(row));
	json_object_object_add(doc->root, "rows", list);
	return list;
}

/* A site, by its id, may be another client's; ids of clients come as 12.0 there (haloitsm-api 3.6). */
static bool
is_clients(CheckContext *context, struct json_object *row)
{
	const HaloFacts *facts = context->facts;
	const char		*client = json_scalar(row, "client_id");

	return client == NULL || facts->client == 0 || (int64) strtod(client, NULL) == facts->client;
}

static void
read_place(CheckContext *context, const Place *place, const AdapterResponse *response)
{
	HaloResource		resource = {.rows = place->rows};
	HaloAnswer			answer;
	int64				total;
	int					matches;
	struct json_object *rows;
	struct json_object *found;

	halo_answer_open(response, "question", &answer);
	rows = answer.error_class == NULL ? halo_answer_rows(&resource, answer.root, &total) : NULL;
	if (rows == NULL && response->status == 404 && is_number(setting(context, place->setting)))
	{
		place_not_found(context, place, NULL, 0);
		return;
	}
	if (rows == NULL && json_int(answer.root, "id", 0) > 0)
		rows = as_list(answer.root);
	if (rows == NULL)
	{
		check_report(
			context, place->check, CHECK_FAILED, said(response, &answer),
			"The scope read:customers is needed, and the agent's access level for Customers (of a category: for "
			"Services).");
		return;
	}
	found = find_place(rows, setting(context, place->setting), &matches);
	if (found != NULL && !is_clients(context, found))
		found = NULL;
	if (found == NULL)
	{
		place_not_found(context, place, rows, matches);
		return;
	}
	check_keep_id(context, place->kept, json_int(found, "id", 0));
	check_report(context, place->check, CHECK_OK,
				 psprintf("%s (" INT64_FORMAT ")",
						  json_scalar(found, "name") ? json_scalar(found, "name") : "without name",
						  json_int(found, "id", 0)),
				 NULL);
}

static char *
place_path(const Place *place, const char *more)
{
	return psprintf("%s?pageinate=true&page_size=%d&page_no=1&order=id%s", place->path, HALO_PAGE, more);
}

/* By name it is searched for: there may be thousands. */
static const char *
search_for(CheckContext *context, const Place *place)
{
	const char	  *wanted = setting(context, place->setting);
	StringInfoData url;

	if (wanted[0] == '\0')
		return "";
	initStringInfo(&url);
	appendStringInfoString(&url, "&search=");
	halo_append_encoded(&url, wanted);
	return url.data;
}

static bool
build_client(CheckContext *context, AdapterRequest *request)
{
	if (is_number(setting(context, client_place.setting)))
		return get(request, psprintf("%s/%s", client_place.path, setting(context, client_place.setting)));
	return get(request, place_path(&client_place, search_for(context, &client_place)));
}

static void
read_client(CheckContext *context, const AdapterResponse *response)
{
	HaloFacts *facts = context->facts;
	ListCell  *lc;

	read_place(context, &client_place, response);
	foreach (lc, context->ids)
	{
		const CheckId *kept = lfirst(lc);

		if (strcmp(kept->name, "client") == 0)
			facts->client = kept->id;
	}
}

/* A site is one of its client's. */
static bool
build_site(CheckContext *context, AdapterRequest *request)
{
	HaloFacts *facts = context->facts;

	if (facts->client == 0)
		return false;
	if (is_number(setting(context, site_place.setting)))
		return get(request, psprintf("%s/%s", site_place.path, setting(context, site_place.setting)));
	return get(request, place_path(&site_place, psprintf("&client_id=" INT64_FORMAT "%s", facts->client,
														 search_for(context, &site_place))));
}

static void
read_site(CheckContext *context, const AdapterResponse *response)
{
	read_place(context, &site_place, response);
}

static bool
build_category(CheckContext *context, AdapterRequest *request)
{
	return get(request, pstrdup(category_place.path));
}

static void
read_category(CheckContext *context, const AdapterResponse *response)
{
	read_place(context, &category_place, response);
}

static const CheckStep greeting = {build_authinfo, read_authinfo, false};

static const CheckStep steps[] = {
	{build_version, read_version, false},	{build_trial, read_trial, true},	{report_scopes, read_nothing, false},
	{build_types, read_types, false},		{build_client, read_client, false}, {build_site, read_site, false},
	{build_category, read_category, false},
};

const CheckPlatform halo_checks = {
	.platform = "haloitsm",
	.facts_size = sizeof(HaloFacts),
	.steps = steps,
	.nsteps = lengthof(steps),
	.greeting = &greeting,
	.setup = halo_setup_steps,
	.nsetup = HALO_SETUP_STEPS,
};
