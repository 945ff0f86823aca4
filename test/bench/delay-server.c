/*
 * delay-server.c
 *	  A platform far away: answers every request a fixed time after it came.
 *
 * usage: delay-server MILLISECONDS ATTRIBUTES
 *
 * Listens on a free port of 127.0.0.1 and prints it.  It answers PATCH of
 * /api/now/cmdb/instance/CLASS/SYS_ID with that sys_id and class and with
 * ATTRIBUTES (members of a JSON object), and any other request, at once, with
 * a token.  The delay is the same for all, so that answers leave in the order
 * of the requests.
 *
 * Copyright (c) 2026, the pgsync_itsm authors; PostgreSQL licence
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#define MAX_FD 8192
#define MAX_REQUEST 16384
#define INSTANCE "/api/now/cmdb/instance/"

/* A connection has one request at a time. */
typedef struct Connection
{
	int		 open;
	unsigned generation;
	size_t	 length;
	char	 request[MAX_REQUEST + 1];
	char	 class_name[81];
	char	 sys_id[33];
} Connection;

typedef struct Answer
{
	int64_t	 due;
	int		 fd;
	unsigned generation;
} Answer;

static Connection *connections[MAX_FD];
static Answer	   answers[MAX_FD]; /* a ring, the oldest first */
static unsigned	   first, after_last;
static int		   poll_fd, timer_fd;
static int64_t	   delay;
static const char *attributes;

static void
give_up(const char *what)
{
	perror(what);
	exit(1);
}

static int64_t
now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec * INT64_C(1000000000) + time.tv_nsec;
}

static void
watch(int fd)
{
	struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};

	if (epoll_ctl(poll_fd, EPOLL_CTL_ADD, fd, &event) != 0)
		give_up("epoll_ctl");
}

static void
close_connection(int fd)
{
	connections[fd]->open = 0;
	connections[fd]->generation++;
	close(fd);
}

static void
send_body(int fd, const char *body)
{
	char answer[MAX_REQUEST];
	int	 n = snprintf(answer, sizeof(answer),
					  "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %zu\r\n\r\n%s", strlen(body),
					  body);

	if (n >= (int) sizeof(answer) || send(fd, answer, n, MSG_NOSIGNAL) != n)
		close_connection(fd);
}

static void
send_record(int fd)
{
	char body[MAX_REQUEST];

	snprintf(body, sizeof(body), "{\"result\":{\"attributes\":{\"sys_id\":\"%s\",\"sys_class_name\":\"%s\",%s}}}",
			 connections[fd]->sys_id, connections[fd]->class_name, attributes);
	send_body(fd, body);
}

static void
set_timer(int64_t due)
{
	struct itimerspec time = {.it_value = {due / 1000000000, due % 1000000000}};

	if (timerfd_settime(timer_fd, TFD_TIMER_ABSTIME, &time, NULL) != 0)
		give_up("timerfd_settime");
}

static void
answer_later(int fd)
{
	Answer *answer = &answers[after_last % MAX_FD];

	*answer = (Answer){now() + delay, fd, connections[fd]->generation};
	if (first == after_last++)
		set_timer(answer->due);
}

static void
answer_due(void)
{
	uint64_t ignored;

	if (read(timer_fd, &ignored, sizeof(ignored)) < 0)
		return;
	for (; first != after_last && answers[first % MAX_FD].due <= now(); first++)
	{
		const Answer *answer = &answers[first % MAX_FD];

		if (connections[answer->fd]->open && connections[answer->fd]->generation == answer->generation)
			send_record(answer->fd);
	}
	if (first != after_last)
		set_timer(answers[first % MAX_FD].due);
}

/* Length of the request that the buffer begins with; 0 if it is not complete. */
static size_t
request_length(const Connection *conn)
{
	const char *head_end = strstr(conn->request, "\r\n\r\n");
	const char *field = strcasestr(conn->request, "\r\nContent-Length:");
	size_t		length;

	if (head_end == NULL)
		return 0;
	length = head_end + 4 - conn->request;
	if (field != NULL && field < head_end)
		length += strtoul(field + strlen("\r\nContent-Length:"), NULL, 10);
	return conn->length >= length ? length : 0;
}

static void
take_request(int fd, size_t length)
{
	Connection *conn = connections[fd];
	int found = sscanf(conn->request, "PATCH " INSTANCE "%80[a-z0-9_]/%32[0-9a-f]", conn->class_name, conn->sys_id);

	memmove(conn->request, conn->request + length, conn->length - length + 1);
	conn->length -= length;
	if (found == 2)
		answer_later(fd);
	else
		send_body(fd, "{\"access_token\":\"benchmark\",\"token_type\":\"Bearer\",\"expires_in\":1799}");
}

static void
read_connection(int fd)
{
	Connection *conn = connections[fd];
	ssize_t		n = recv(fd, conn->request + conn->length, MAX_REQUEST - conn->length, 0);
	size_t		length;

	if (n <= 0)
	{
		close_connection(fd);
		return;
	}
	conn->length += n;
	conn->request[conn->length] = '\0';
	if ((length = request_length(conn)) > 0)
		take_request(fd, length);
}

static void
accept_connection(int listener)
{
	int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	int on = 1;

	if (fd < 0 || fd >= MAX_FD)
		give_up("accept");
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	if (connections[fd] == NULL)
		connections[fd] = calloc(1, sizeof(Connection));
	connections[fd]->open = 1;
	connections[fd]->length = 0;
	watch(fd);
}

static int
listen_somewhere(void)
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t		   length = sizeof(address);
	int				   fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (bind(fd, (struct sockaddr *) &address, sizeof(address)) != 0 || listen(fd, 1024) != 0 ||
		getsockname(fd, (struct sockaddr *) &address, &length) != 0)
		give_up("listen");
	printf("%d\n", ntohs(address.sin_port));
	fflush(stdout);
	return fd;
}

int
main(int argc, char **argv)
{
	struct epoll_event events[256];
	int				   listener;

	if (argc < 3)
		return fprintf(stderr, "usage: delay-server MILLISECONDS ATTRIBUTES\n"), 2;
	delay = atoi(argv[1]) * INT64_C(1000000);
	attributes = argv[2];
	poll_fd = epoll_create1(EPOLL_CLOEXEC);
	timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	listener = listen_somewhere();
	watch(listener);
	watch(timer_fd);
	for (;;)
	{
		int n = epoll_wait(poll_fd, events, 256, -1);

		for (int i = 0; i < n; i++)
		{
			if (events[i].data.fd == listener)
				accept_connection(listener);
			else if (events[i].data.fd == timer_fd)
				answer_due();
			else
				read_connection(events[i].data.fd);
		}
	}
}
