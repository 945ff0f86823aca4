/*
 * planner.h
 *	  Plans that take long, in a process of their own.
 *
 * Copyright (c) 2026, the pgsync_itsm authors; PostgreSQL licence
 */
#ifndef PGSYNC_ITSM_PLANNER_H
#define PGSYNC_ITSM_PLANNER_H

#include "postgres.h"

#include "queue.h"

/* Entry point of the planner process; the argument is the database's oid. */
extern PGDLLEXPORT void planner_main(Datum arg);

/*
 * For the worker: starts this database's planner unless there is one.  Returns
 * in how many milliseconds to ask again, 0 if it is at work or has been started.
 */
extern long planner_start(void);

/*
 * For worker and planner: one step of a plan in its own transaction.  An error
 * of the plan fails the run, goes to the log, and counts as done; only an
 * error while saying so is thrown.  False if the extension is gone.
 */
extern bool planner_step(int64 run_id, QueuePlan *outcome);

/*
 * For worker and planner: settings that no one may choose for these processes
 * with ALTER DATABASE or ALTER ROLE.  Call after connecting and after a reload.
 */
extern void planner_pin_settings(void);

#endif /* PGSYNC_ITSM_PLANNER_H */
