/*
 * aside.h
 *	  A worker makes room for a statement that needs its database for itself.
 *
 * Copyright (c) 2026, the pgsync_itsm authors; PostgreSQL licence
 */
#ifndef PGSYNC_ITSM_ASIDE_H
#define PGSYNC_ITSM_ASIDE_H

/* Called once, while the library is being preloaded. */
extern void aside_init(void);

#endif /* PGSYNC_ITSM_ASIDE_H */
