/*
 * planner.h
 *	  Plans that take long, in a process of their own.
 *
 * Copyright (c) 2026, the pgsync_itsm authors; PostgreSQL licence
 */
#ifndef PGSYNC_ITSM_PLANNER_H
#define PGSYNC_ITSM_PLANNER_H

#include "postgres.h"

#include "launcher.h"
#include "queue.h"

/* Entry point of the planner process; the argument is the database's oid. */
extern PGDLLEXPORT void planner_main(Datum arg);

/*
 * For the worker, while a run of this lane waits that no planner is at: starts
 * the planner unless there is one, and has a fast one that takes too long
 * leave its place.  Returns in how many milliseconds to ask again, 0 if it is
 * at work or has been started.  May open a transaction.
 */
extern long planner_start(PlannerLane lane);

/*
 * For worker and planner: one step of a plan in its own transaction.  An error
 * of the plan fails the run, goes to the log, and counts as done; only an
 * error while saying so is thrown.  A step that takes longer than limit_ms (0:
 * as long as it takes) is undone, and the run is the planner's: moved.  False
 * if the extension is gone.
 */
extern bool planner_step(int64 run_id, int limit_ms, QueuePlan *outcome);

/*
 * For worker and planner: settings that no one may choose for these processes
 * with ALTER DATABASE or ALTER ROLE.  Call after connecting and after a reload.
 */
extern void planner_pin_settings(void);

#endif /* PGSYNC_ITSM_PLANNER_H */
