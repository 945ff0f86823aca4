/*
 * pgsync_itsm.c
 *	  What happens when the library is loaded: settings, and nothing else of its own.
 *
 * Processes and hooks are registered by the modules that own them.  No query,
 * no network, no file access belongs here: this runs in the postmaster too.
 *
 * Copyright (c) 2026, the pgsync_itsm authors; PostgreSQL licence
 */
#include "postgres.h"

#include <limits.h>

#include "fmgr.h"
#include "utils/guc.h"
#include "utils/varlena.h"

#include "http.h"
#include "launcher.h"
#include "pgsync_itsm.h"

PG_MODULE_MAGIC;

#define DEFAULT_ALLOWED_HOSTS \
	"*.service-now.com,*.servicenowservices.com,*.haloitsm.com,*.haloservicedesk.com,*.halopsa.com"

char *pgsync_itsm_databases = NULL;
char *pgsync_itsm_key_file = NULL;
char *pgsync_itsm_allowed_hosts = NULL;
char *pgsync_itsm_allow_insecure_hosts = NULL;
char *pgsync_itsm_https_proxy = NULL;
char *pgsync_itsm_ca_file = NULL;
char *pgsync_itsm_site = NULL;
int	  pgsync_itsm_slow_poll = 30;
int	  pgsync_itsm_log_retention = 90 * 24 * 60;
int	  pgsync_itsm_plan_timeout = 10 * 60 * 1000;
int	  pgsync_itsm_planner_slice = 3 * 1000;
int	  pgsync_itsm_lock_timeout = 10 * 1000;
int	  pgsync_itsm_resolve_timeout = 5 * 1000;
int	  pgsync_itsm_connect_timeout = 10 * 1000;
int	  pgsync_itsm_tls_timeout = 10 * 1000;
int	  pgsync_itsm_first_byte_timeout = 0;
int	  pgsync_itsm_request_timeout = PGSYNC_ITSM_REQUEST_TIMEOUT;
int	  pgsync_itsm_max_response_size = 64 * 1024;
int	  pgsync_itsm_debounce = 2 * 1000;
int	  pgsync_itsm_lease = 300;
int	  pgsync_itsm_retry_delay = 1000;
int	  pgsync_itsm_retry_delay_max = 60 * 1000;

extern PGDLLEXPORT void _PG_init(void);

/* Splits a list of names in place; false if it is none. */
static bool
split_names(char *raw, List **names)
{
	return SplitGUCList(raw, ',', names);
}

List *
pgsync_itsm_database_list(void)
{
	List *names = NIL;

	if (!split_names(pstrdup(pgsync_itsm_databases), &names))
		elog(ERROR, "pgsync_itsm.databases is no list");
	return names;
}

static bool
check_databases(char **newval, void **extra, GucSource source)
{
	List	 *names = NIL;
	ListCell *lc;
	char	 *raw = pstrdup(*newval);

	if (!split_names(raw, &names))
	{
		GUC_check_errdetail("It is not a list of names separated by commas.");
		GUC_check_errhint("Name the databases as in: app, \"Odd, Name\".");
		return false;
	}
	foreach (lc, names)
	{
		const char *name = lfirst(lc);

		if (name[0] == '\0' || strlen(name) >= NAMEDATALEN)
		{
			GUC_check_errdetail("\"%s\" cannot be the name of a database.", name);
			GUC_check_errhint("A name has 1 to %d bytes.", NAMEDATALEN - 1);
			return false;
		}
	}
	list_free(names);
	pfree(raw);
	return true;
}

static bool
check_hosts(const char *list, bool wildcards)
{
	const char *problem = http_check_host_list(list, wildcards);

	if (problem == NULL)
		return true;
	GUC_check_errdetail("%s", problem);
	if (wildcards)
		GUC_check_errhint("Name hosts or domains separated by commas, as in \"itsm.example.com, *.service-now.com\".");
	else
		GUC_check_errhint("Name hosts separated by commas, with or without port, as in \"127.0.0.1:8080, sim.local\".");
	return false;
}

static bool
check_allowed_hosts(char **newval, void **extra, GucSource source)
{
	return check_hosts(*newval, true);
}

static bool
check_allow_insecure_hosts(char **newval, void **extra, GucSource source)
{
	return check_hosts(*newval, false);
}

static bool
check_https_proxy(char **newval, void **extra, GucSource source)
{
	const char *value = *newval;
	const char *rest;

	if (value[0] == '\0')
		return true;
	if (strchr(value, '@') != NULL)
	{
		GUC_check_errdetail("Settings can be read by everyone, so there must be no user name or password in it.");
		GUC_check_errhint("Let the proxy know the server by its address.");
		return false;
	}
	rest = strncmp(value, "http://", 7) == 0 ? value + 7 : NULL;
	if (rest == NULL || rest[0] == '\0' || strchr(rest, '/') != NULL || strchr(rest, '*') != NULL ||
		http_check_host_list(rest, false) != NULL)
	{
		GUC_check_errdetail("It is not the address of a proxy.");
		GUC_check_errhint("Give it as in \"http://proxy.example.com:3128\".");
		return false;
	}
	return true;
}

/* Files are looked at when they are used; here only the form is checked. */
static bool
check_file_name(char **newval, void **extra, GucSource source)
{
	if ((*newval)[0] == '\0' || is_absolute_path(*newval))
		return true;
	GUC_check_errdetail("It is not an absolute path.");
	GUC_check_errhint("Give the whole path of the file.");
	return false;
}

static void
define_text(const char *name, const char *description, const char *details, char **variable, const char *boot,
			int flags, GucStringCheckHook check)
{
	DefineCustomStringVariable(name, description, details, variable, boot, PGC_SIGHUP, flags, check, NULL, NULL);
}

static void
define_int(const char *name, const char *description, int *variable, int boot, int min, int max, int unit)
{
	DefineCustomIntVariable(name, description, NULL, variable, boot, min, max, PGC_SIGHUP, unit, NULL, NULL, NULL);
}

static void
define_text_settings(void)
{
	define_text("pgsync_itsm.databases", "Databases that a worker serves.",
				"A list of names separated by commas; empty: none.", &pgsync_itsm_databases, "", GUC_LIST_INPUT,
				check_databases);
	define_text("pgsync_itsm.key_file", "File with the master key that seals secrets, mode 0600.",
				"Made on first use. Empty: pgsync_itsm.key in the data directory.", &pgsync_itsm_key_file, "",
				GUC_SUPERUSER_ONLY, check_file_name);
	define_text("pgsync_itsm.allowed_hosts", "Hosts that may be contacted.",
				"Names, or domains as in *.service-now.com, separated by commas.", &pgsync_itsm_allowed_hosts,
				DEFAULT_ALLOWED_HOSTS, GUC_LIST_INPUT, check_allowed_hosts);
	define_text("pgsync_itsm.allow_insecure_hosts", "Hosts that may be contacted over plain http.",
				"host or host:port, separated by commas; meant for tests.", &pgsync_itsm_allow_insecure_hosts, "",
				GUC_LIST_INPUT, check_allow_insecure_hosts);
	define_text("pgsync_itsm.https_proxy", "Proxy for https, as in http://proxy.example.com:3128.",
				"Empty: none. Proxies named in the environment are never used.", &pgsync_itsm_https_proxy, "", 0,
				check_https_proxy);
	define_text("pgsync_itsm.ca_file", "File with the certificate authorities that are trusted.",
				"PEM. Empty: those of the system.", &pgsync_itsm_ca_file, "", 0, check_file_name);
	define_text("pgsync_itsm.site", "Name of this installation.",
				"Part of the fingerprint by which a copied database is told from the one it was copied from.",
				&pgsync_itsm_site, "", 0, NULL);
}

static void
define_number_settings(void)
{
	define_int("pgsync_itsm.slow_poll", "Time after which a worker that nobody woke looks for work.",
			   &pgsync_itsm_slow_poll, 30, 1, 3600, GUC_UNIT_S);
	define_int("pgsync_itsm.log_retention",
			   "Age at which rows of integration_sync_log and items of runs are removed; 0 keeps them.",
			   &pgsync_itsm_log_retention, 90 * 24 * 60, 0, INT_MAX / 60, GUC_UNIT_MIN);
	define_int("pgsync_itsm.plan_timeout", "Longest time that one statement of a user's source may take.",
			   &pgsync_itsm_plan_timeout, 10 * 60 * 1000, 1000, INT_MAX, GUC_UNIT_MS);
	define_int("pgsync_itsm.planner_slice",
			   "Time after which a plan that others wait for goes on in a planner for slow ones.",
			   &pgsync_itsm_planner_slice, 3 * 1000, 100, INT_MAX, GUC_UNIT_MS);
	define_int("pgsync_itsm.lock_timeout", "Longest wait for a lock while a source is read.", &pgsync_itsm_lock_timeout,
			   10 * 1000, 10, INT_MAX, GUC_UNIT_MS);
	define_int("pgsync_itsm.resolve_timeout", "Longest time to find a host's address.", &pgsync_itsm_resolve_timeout,
			   5 * 1000, 100, 600 * 1000, GUC_UNIT_MS);
	define_int("pgsync_itsm.connect_timeout", "Longest time to reach a host.", &pgsync_itsm_connect_timeout, 10 * 1000,
			   100, 600 * 1000, GUC_UNIT_MS);
	define_int("pgsync_itsm.tls_timeout", "Longest time to agree on TLS.", &pgsync_itsm_tls_timeout, 10 * 1000, 100,
			   600 * 1000, GUC_UNIT_MS);
	define_int("pgsync_itsm.first_byte_timeout",
			   "Longest wait for the first byte of an answer; 0: as long as the whole request may take.",
			   &pgsync_itsm_first_byte_timeout, 0, 0, 3600 * 1000, GUC_UNIT_MS);
	define_int("pgsync_itsm.request_timeout",
			   "Longest time for one request; kinds that take longer have a multiple of it.",
			   &pgsync_itsm_request_timeout, PGSYNC_ITSM_REQUEST_TIMEOUT, 100, 3600 * 1000, GUC_UNIT_MS);
	define_int("pgsync_itsm.max_response_size", "Size at which an answer is cut off and counts as failed.",
			   &pgsync_itsm_max_response_size, 64 * 1024, 64, 256 * 1024, GUC_UNIT_KB);
	define_int("pgsync_itsm.debounce", "Time that changes are collected before they are published.",
			   &pgsync_itsm_debounce, 2 * 1000, 0, 3600 * 1000, GUC_UNIT_MS);
	define_int("pgsync_itsm.lease", "Time after which what a worker claimed may be claimed again.", &pgsync_itsm_lease,
			   300, 10, 86400, GUC_UNIT_S);
	define_int("pgsync_itsm.retry_delay", "Delay before the second attempt; it doubles with each further one.",
			   &pgsync_itsm_retry_delay, 1000, 1, 3600 * 1000, GUC_UNIT_MS);
	define_int("pgsync_itsm.retry_delay_max", "Longest delay between two attempts, unless the platform asks for more.",
			   &pgsync_itsm_retry_delay_max, 60 * 1000, 1, 24 * 3600 * 1000, GUC_UNIT_MS);
}

void
_PG_init(void)
{
	define_text_settings();
	define_number_settings();
	MarkGUCPrefixReserved("pgsync_itsm");

	launcher_init();
}
