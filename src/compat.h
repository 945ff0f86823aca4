/*
 * compat.h
 *	  Differences between versions of PostgreSQL (15 to 18) and libcurl.
 *
 * Nowhere else does the code ask for a version.  No logic belongs here.
 *
 * Copyright (c) 2026, the pgsync_itsm authors; PostgreSQL licence
 */
#ifndef PGSYNC_ITSM_COMPAT_H
#define PGSYNC_ITSM_COMPAT_H

#include "postgres.h"

#include "catalog/pg_database.h"
#include "common/base64.h"
#include "miscadmin.h"
#include "storage/latch.h"
#include "utils/acl.h"
#include "utils/memutils.h"
#if PG_VERSION_NUM >= 180000
#include "storage/waiteventset.h"
#endif
#if PG_VERSION_NUM >= 170000
#include "utils/wait_event.h"
#endif

#if PG_VERSION_NUM < 150000
#error "pgsync_itsm needs PostgreSQL 15 or newer"
#endif

/* A wait set for the life of the process. */
#if PG_VERSION_NUM >= 170000
#define compat_create_wait_event_set(nevents) CreateWaitEventSet(NULL, (nevents))
#else
#define compat_create_wait_event_set(nevents) CreateWaitEventSet(TopMemoryContext, (nevents))
#endif

/* A named wait event where the server knows such; PG_WAIT_EXTENSION elsewhere. */
#if PG_VERSION_NUM >= 170000
#define compat_wait_event(name) WaitEventExtensionNew(name)
#else
#define compat_wait_event(name) PG_WAIT_EXTENSION
#endif

/* All settings of the server; their number into *count. */
#if PG_VERSION_NUM >= 160000
#define compat_all_settings(count) get_guc_variables(count)
#else
#define compat_all_settings(count) (*(count) = GetNumConfigOptions(), get_guc_variables())
#endif

/* Index entries of a row that was just appended; its answer is of no use where nothing is deferred. */
#if PG_VERSION_NUM >= 160000
#define compat_insert_index_tuples(info, slot, estate) \
	ExecInsertIndexTuples((info), (slot), (estate), false, false, NULL, NIL, false)
#else
#define compat_insert_index_tuples(info, slot, estate) \
	ExecInsertIndexTuples((info), (slot), (estate), false, false, NULL, NIL)
#endif

/* base64 works on bytes from 18 on. */
#if PG_VERSION_NUM >= 180000
#define compat_b64_encode(src, len, dst, size) pg_b64_encode((const uint8 *) (src), (len), (dst), (size))
#define compat_b64_decode(src, len, dst, size) pg_b64_decode((src), (len), (uint8 *) (dst), (size))
#else
#define compat_b64_encode(src, len, dst, size) pg_b64_encode((src), (len), (dst), (size))
#define compat_b64_decode(src, len, dst, size) pg_b64_decode((src), (len), (dst), (size))
#endif

/* May the current user drop or rename it, as far as that is the database's matter? */
#if PG_VERSION_NUM >= 160000
#define compat_owns_database(oid) object_ownercheck(DatabaseRelationId, (oid), GetUserId())
#else
#define compat_owns_database(oid) pg_database_ownercheck((oid), GetUserId())
#endif

/* From 17 on a dynamic worker may say that DROP DATABASE can interrupt it. */
#ifndef BGWORKER_INTERRUPTIBLE
#define BGWORKER_INTERRUPTIBLE 0
#endif

/* libcurl: what is only set where it exists. */
#ifdef LIBCURL_VERSION_NUM
#if LIBCURL_VERSION_NUM >= 0x075700
#define compat_curl_quick_exit(easy) curl_easy_setopt((easy), CURLOPT_QUICK_EXIT, 1L)
#else
#define compat_curl_quick_exit(easy) CURLE_OK
#endif
#if LIBCURL_VERSION_NUM >= 0x075500
#define compat_curl_protocols(easy, insecure) \
	curl_easy_setopt((easy), CURLOPT_PROTOCOLS_STR, (insecure) ? "http,https" : "https")
#else
#define compat_curl_protocols(easy, insecure)   \
	curl_easy_setopt((easy), CURLOPT_PROTOCOLS, \
					 (long) ((insecure) ? CURLPROTO_HTTP | CURLPROTO_HTTPS : CURLPROTO_HTTPS))
#endif
#endif /* LIBCURL_VERSION_NUM */

#endif /* PGSYNC_ITSM_COMPAT_H */
