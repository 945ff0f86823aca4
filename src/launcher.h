/*
 * launcher.h
 *	  One worker per database: who runs where, and how it is woken.
 *
 * Copyright (c) 2026, the pgsync_itsm authors; PostgreSQL licence
 */
#ifndef PGSYNC_ITSM_LAUNCHER_H
#define PGSYNC_ITSM_LAUNCHER_H

#include "postgres.h"
#include "datatype/timestamp.h"

/* What a database's slot says; the names are in launcher.c. */
typedef enum LauncherState
{
	LAUNCHER_STARTING,	  /* registered, not running yet */
	LAUNCHER_IDLE,		  /* waits: nothing to do, or for an answer */
	LAUNCHER_BUSY,		  /* in a transaction */
	LAUNCHER_NOT_ADOPTED, /* a copy of another database: sends nothing */
	LAUNCHER_ABSENT,	  /* no extension there; it exited by itself */
	LAUNCHER_STOPPING,	  /* told to end, its database left the list */
	LAUNCHER_EXITED,	  /* ended, the launcher has not looked yet */
	LAUNCHER_WAITING,	  /* ended; started again after a while, longer each time */
	LAUNCHER_NO_SLOT	  /* max_worker_processes is used up */
} LauncherState;

/* A plan that takes long does not stay in the way of others. */
typedef enum PlannerLane
{
	PLANNER_FAST,
	PLANNER_SLOW
} PlannerLane;
#define PLANNER_LANES 2

/* What became of a fast planner that others wait for. */
typedef enum PlannerRelief
{
	PLANNER_IN_TIME,	/* it has time left */
	PLANNER_MOVED,		/* it is the slow one now, the place is free */
	PLANNER_INTERRUPTED /* it leaves its run */
} PlannerRelief;

/*
 * Called once from _PG_init.  Registers hooks, launcher and transaction
 * callback if the library is being preloaded; does nothing otherwise, nor in
 * binary upgrade.
 */
extern void launcher_init(void);

/* Entry point of the launcher process. */
extern PGDLLEXPORT void launcher_main(Datum arg);

/*
 * At commit of this transaction, wake the worker of this database.  Cheap, may
 * be called any number of times; does nothing if the library isn't preloaded.
 */
extern void launcher_wake_at_commit(void);

/* At commit of this transaction, have the launcher look. */
extern void launcher_look_at_commit(void);

/*
 * For aside.c: worker and planners of this database are asked to end, and no
 * other begins before this transaction has ended, or some seconds have passed.
 */
extern void launcher_step_aside(Oid database);

/*
 * For worker.c.  Takes this process's slot; ends the process (code 0) if the
 * launcher no longer expects it.  Call before connecting to the database.
 */
extern void launcher_attach_worker(void);

/* Was the worker asked to look?  Takes the request back. */
extern bool launcher_take_wake(void);

/* What the worker shows in itsm_stat_worker; none of these throws. */
extern void launcher_set_state(LauncherState state);
extern void launcher_set_idle(void);										 /* if it was busy */
extern void launcher_report_cycle(int in_flight, TimestampTz oldest_change); /* 0: none waits */

/* Worker and planner: sqlstate and message of the error that ends them. */
extern void launcher_report_error(int sqlerrcode, const char *message);

/*
 * For planner.c, in a process that got a ticket of launcher_planner_ticket().
 * Takes the planner's place in the slot; ends the process (code 0) if it is
 * taken or the worker that asked is gone.  Call before connecting to the
 * database.
 */
extern void launcher_attach_planner(void);

/* For the worker: what its planner gets as bgw_extra. */
extern void launcher_planner_ticket(PlannerLane lane, char *extra);

/* Which run the planner is at; 0: none. */
extern void launcher_set_planner_run(int64 run_id);

/* In which lane this planner is; the worker may have moved it. */
extern PlannerLane launcher_planner_lane(void);

/* Was this process cancelled to leave this run to the slow planner? */
extern bool launcher_planner_yields(int64 run_id);

/* Planner to worker: look now. */
extern void launcher_wake_worker(void);

/* Is there a planner that holds its place? */
extern bool launcher_planner_attached(PlannerLane lane);

/* For how long the worker should not start a planner, the last one having failed. */
extern long launcher_planner_pause_ms(PlannerLane lane);

/* Is a planner at this run? */
extern bool launcher_run_is_planned(int64 run_id);

/*
 * For the worker, while a run waits that is not the fast planner's.  Is that
 * at one run for longer than its slice, it becomes the slow planner (may_move,
 * and there is none), or is interrupted, and ended if that does not help.
 * *wait_ms is the rest of its slice.
 */
extern PlannerRelief launcher_relieve_planner(bool may_move, long *wait_ms);

/* For the worker: a run that has ended each of its planners; 0: none. Told once. */
extern int64 launcher_lost_run(void);

/* For the worker: which run it plans itself, 0: none; returns which it was, perhaps when the last worker ended. */
extern int64 launcher_set_here_run(int64 run_id);

/* Worker to planner: cancel what you do, if you do it for this run. */
extern void launcher_cancel_planner(int64 run_id);

#endif /* PGSYNC_ITSM_LAUNCHER_H */
