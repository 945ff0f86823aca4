/*
 * worker.h
 *	  The worker of one database.
 *
 * Copyright (c) 2026, the pgsync_itsm authors; PostgreSQL licence
 */
#ifndef PGSYNC_ITSM_WORKER_H
#define PGSYNC_ITSM_WORKER_H

#include "postgres.h"

/* Entry point of the worker process; the argument is the database's oid. */
extern PGDLLEXPORT void worker_main(Datum arg);

#endif /* PGSYNC_ITSM_WORKER_H */
