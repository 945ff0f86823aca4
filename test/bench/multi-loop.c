/*
 * multi-loop.c
 *	  The limit that the worker is compared with: libcurl's multi interface in
 *	  one process, on epoll, and nothing else.
 *
 * usage: multi-loop URL BODY IN_FLIGHT SECONDS [CA_FILE]
 *
 * Sends PATCH requests with the text BODY to URL followed by a number of 32
 * hex digits, another one each time, as the worker does.  Handles and their
 * connections are used again.  After a second of warming up it counts for
 * SECONDS and prints: requests a second, microseconds of CPU a request,
 * connections opened.
 *
 * Copyright (c) 2026, the pgsync_itsm authors; PostgreSQL licence
 */
#include <curl/curl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <time.h>

#define MAX_ANSWER 65536
#define WARM_UP 1.0

typedef struct Transfer
{
	CURL  *handle;
	char   answer[MAX_ANSWER];
	size_t length;
} Transfer;

static const char		 *prefix;
static unsigned long long number;
static double			  deadline; /* libcurl's timer, which fires once; 0: none */
static long				  connections;

static void
give_up(const char *what)
{
	fprintf(stderr, "multi-loop: %s\n", what);
	exit(1);
}

static double
now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec + time.tv_nsec / 1e9;
}

static double
cpu(void)
{
	struct rusage usage;

	getrusage(RUSAGE_SELF, &usage);
	return usage.ru_utime.tv_sec + usage.ru_stime.tv_sec + (usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

static size_t
keep_answer(char *data, size_t size, size_t n, void *arg)
{
	Transfer *transfer = arg;

	if (transfer->length + n > MAX_ANSWER)
		return 0;
	memcpy(transfer->answer + transfer->length, data, n);
	transfer->length += n;
	return size * n;
}

static int
watch_socket(CURL *handle, curl_socket_t fd, int what, void *arg, void *known)
{
	int				   poll = *(int *) arg;
	struct epoll_event event = {.data.fd = fd};

	if (what == CURL_POLL_REMOVE)
		return epoll_ctl(poll, EPOLL_CTL_DEL, fd, NULL), 0;
	event.events = (what & CURL_POLL_IN ? EPOLLIN : 0) | (what & CURL_POLL_OUT ? EPOLLOUT : 0);
	if (epoll_ctl(poll, EPOLL_CTL_MOD, fd, &event) != 0 && epoll_ctl(poll, EPOLL_CTL_ADD, fd, &event) != 0)
		give_up("epoll_ctl failed");
	return 0;
}

static int
set_timer(CURLM *multi, long ms, void *arg)
{
	deadline = ms < 0 ? 0 : now() + ms / 1e3;
	return 0;
}

static Transfer *
make_transfer(const char *body, const char *ca_file, struct curl_slist *headers)
{
	Transfer *transfer = calloc(1, sizeof(Transfer));

	transfer->handle = curl_easy_init();
	curl_easy_setopt(transfer->handle, CURLOPT_CUSTOMREQUEST, "PATCH");
	curl_easy_setopt(transfer->handle, CURLOPT_POSTFIELDS, body);
	curl_easy_setopt(transfer->handle, CURLOPT_HTTPHEADER, headers);
	curl_easy_setopt(transfer->handle, CURLOPT_WRITEFUNCTION, keep_answer);
	curl_easy_setopt(transfer->handle, CURLOPT_WRITEDATA, transfer);
	curl_easy_setopt(transfer->handle, CURLOPT_PRIVATE, transfer);
	curl_easy_setopt(transfer->handle, CURLOPT_HTTP_VERSION, (long) CURL_HTTP_VERSION_1_1);
	curl_easy_setopt(transfer->handle, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(transfer->handle, CURLOPT_PROXY, "");
	if (ca_file)
		curl_easy_setopt(transfer->handle, CURLOPT_CAINFO, ca_file);
	return transfer;
}

static void
send_next(CURLM *multi, Transfer *transfer)
{
	char url[1024];

	snprintf(url, sizeof(url), "%s%032llx", prefix, number++);
	transfer->length = 0;
	curl_easy_setopt(transfer->handle, CURLOPT_URL, url);
	curl_multi_add_handle(multi, transfer->handle);
}

/* Returns how many have finished since the last call, and sends as many anew. */
static long
take_finished(CURLM *multi)
{
	CURLMsg *message;
	int		 left;
	long	 finished = 0;

	while ((message = curl_multi_info_read(multi, &left)) != NULL)
	{
		Transfer *transfer;
		long	  status;
		long	  opened;

		curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &transfer);
		curl_easy_getinfo(message->easy_handle, CURLINFO_RESPONSE_CODE, &status);
		curl_easy_getinfo(message->easy_handle, CURLINFO_NUM_CONNECTS, &opened);
		if (message->data.result != CURLE_OK)
			give_up(curl_easy_strerror(message->data.result));
		if (status != 200)
			give_up("the server did not answer 200");
		connections += opened;
		curl_multi_remove_handle(multi, transfer->handle);
		send_next(multi, transfer);
		finished++;
	}
	return finished;
}

static int
wait_ms(void)
{
	double left = (deadline - now()) * 1e3;

	if (deadline == 0)
		return 1000;
	return left <= 0 ? 0 : (int) left + 1;
}

static void
drive(CURLM *multi, int poll)
{
	struct epoll_event events[256];
	int				   running;
	int				   n = epoll_wait(poll, events, 256, wait_ms());

	for (int i = 0; i < n; i++)
	{
		int what = (events[i].events & EPOLLIN ? CURL_CSELECT_IN : 0) |
				   (events[i].events & EPOLLOUT ? CURL_CSELECT_OUT : 0) |
				   (events[i].events & (EPOLLERR | EPOLLHUP) ? CURL_CSELECT_ERR : 0);

		curl_multi_socket_action(multi, events[i].data.fd, what, &running);
	}
	if (deadline != 0 && now() >= deadline)
	{
		deadline = 0;
		curl_multi_socket_action(multi, CURL_SOCKET_TIMEOUT, 0, &running);
	}
}

static void
measure(CURLM *multi, int poll, double seconds)
{
	double begin = now() + WARM_UP;
	double used = 0;
	long   finished = 0;

	while (now() < begin)
	{
		drive(multi, poll);
		take_finished(multi);
	}
	used = cpu();
	begin = now();
	while (now() < begin + seconds)
	{
		drive(multi, poll);
		finished += take_finished(multi);
	}
	printf("%.0f %.1f %ld\n", finished / (now() - begin), (cpu() - used) / finished * 1e6, connections);
}

int
main(int argc, char **argv)
{
	struct curl_slist *headers = NULL;
	CURLM			  *multi;
	int				   poll = epoll_create1(EPOLL_CLOEXEC);
	int				   in_flight;

	if (argc < 5)
		give_up("usage: multi-loop URL BODY IN_FLIGHT SECONDS [CA_FILE]");
	prefix = argv[1];
	in_flight = atoi(argv[3]);
	curl_global_init(CURL_GLOBAL_ALL);
	headers = curl_slist_append(headers, "Content-Type: application/json");
	headers = curl_slist_append(headers, "Accept: application/json");
	headers = curl_slist_append(headers, "Authorization: Bearer benchmark");
	multi = curl_multi_init();
	curl_multi_setopt(multi, CURLMOPT_SOCKETFUNCTION, watch_socket);
	curl_multi_setopt(multi, CURLMOPT_SOCKETDATA, &poll);
	curl_multi_setopt(multi, CURLMOPT_TIMERFUNCTION, set_timer);
	curl_multi_setopt(multi, CURLMOPT_MAXCONNECTS, (long) in_flight);
	for (int i = 0; i < in_flight; i++)
		send_next(multi, make_transfer(argv[2], argc > 5 ? argv[5] : NULL, headers));
	measure(multi, poll, atof(argv[4]));
	return 0;
}
