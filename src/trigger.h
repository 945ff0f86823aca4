/*
 * trigger.h
 *	  The trigger function that notes changed keys; called by triggers only.
 *
 * Copyright (c) 2026, the pgsync_itsm authors; PostgreSQL licence
 */
#ifndef PGSYNC_ITSM_TRIGGER_H
#define PGSYNC_ITSM_TRIGGER_H

#include "postgres.h"
#include "fmgr.h"

/*
 * pgsync_itsm.queue_change: AFTER trigger, for each row or for TRUNCATE.  What
 * it noted is in integration_queue when the transaction commits; if that is
 * impossible, the transaction fails.
 */
extern PGDLLEXPORT Datum trigger_queue_change(PG_FUNCTION_ARGS);

#endif /* PGSYNC_ITSM_TRIGGER_H */
