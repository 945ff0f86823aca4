/*
 * secrets.h
 *	  Sealed credentials: kept in a table, readable only with the key file.
 *
 * Copyright (c) 2026, the pgsync_itsm authors; PostgreSQL licence
 */
#ifndef PGSYNC_ITSM_SECRETS_H
#define PGSYNC_ITSM_SECRETS_H

#include "postgres.h"
#include "utils/uuid.h"

/*
 * The clear text behind a reference that pgsync_itsm.secret_ref() made: UTF-8
 * (or whatever bytes the file held), NUL-terminated, *len bytes, palloc'd.  The
 * caller gives it back with secrets_close().  Needs a transaction.  Throws with
 * a hint if the key file is missing, readable for others, or another one, and
 * if the reference leads nowhere; no message holds secret material.
 * A NULL reference gives NULL.
 */
extern char *secrets_open(const char *ref, size_t *len);

/* The same, and throws unless the secret was stored for this namespace. */
extern char *secrets_open_for(const char *ref, const pg_uuid_t *namespace_id, size_t *len);

/* Zeroes and frees.  NULL is harmless.  Never throws. */
extern void secrets_close(char *secret, size_t len);

#endif /* PGSYNC_ITSM_SECRETS_H */
