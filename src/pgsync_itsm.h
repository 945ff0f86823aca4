/*
 * pgsync_itsm.h
 *	  Settings of the extension, as the rest of it reads them.
 *
 * Adapters must not include this: what they need stands in their arguments.
 *
 * Copyright (c) 2026, the pgsync_itsm authors; PostgreSQL licence
 */
#ifndef PGSYNC_ITSM_H
#define PGSYNC_ITSM_H

#include "postgres.h"
#include "nodes/pg_list.h"

#define PGSYNC_ITSM_VERSION "1.0"

/* Default of pgsync_itsm.request_timeout, in ms: what adapters' own limits are relative to. */
#define PGSYNC_ITSM_REQUEST_TIMEOUT (90 * 1000)

/*
 * All are PGC_SIGHUP; a value that cannot be used was refused by a check hook,
 * so whoever reads them need not check again.  None is ever NULL.
 */
extern char *pgsync_itsm_databases;
extern char *pgsync_itsm_key_file; /* "" = pgsync_itsm.key in the data directory */
extern char *pgsync_itsm_allowed_hosts;
extern char *pgsync_itsm_allow_insecure_hosts;
extern char *pgsync_itsm_https_proxy;
extern char *pgsync_itsm_ca_file;
extern char *pgsync_itsm_site;
extern int	 pgsync_itsm_slow_poll;			 /* s */
extern int	 pgsync_itsm_log_retention;		 /* min, as PostgreSQL has no unit above it to store; 0 = for ever */
extern int	 pgsync_itsm_plan_timeout;		 /* ms */
extern int	 pgsync_itsm_planner_slice;		 /* ms */
extern int	 pgsync_itsm_lock_timeout;		 /* ms */
extern int	 pgsync_itsm_resolve_timeout;	 /* ms */
extern int	 pgsync_itsm_connect_timeout;	 /* ms */
extern int	 pgsync_itsm_tls_timeout;		 /* ms */
extern int	 pgsync_itsm_first_byte_timeout; /* ms; 0: as long as the whole request may take */
extern int	 pgsync_itsm_request_timeout;	 /* ms */
extern int	 pgsync_itsm_max_response_size;	 /* kB */
extern int	 pgsync_itsm_debounce;			 /* ms */
extern int	 pgsync_itsm_lease;				 /* s */
extern int	 pgsync_itsm_retry_delay;		 /* ms */
extern int	 pgsync_itsm_retry_delay_max;	 /* ms */

/*
 * The names in pgsync_itsm.databases, as char * palloc'd in the current
 * context, in their order.  Case counts; a name with a comma is double-quoted.
 */
extern List *pgsync_itsm_database_list(void);

#endif /* PGSYNC_ITSM_H */
