/* Moves without a user buffer: kt_transfer CASE FAMILY */
#define _GNU_SOURCE
#include "truth.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/io_uring.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

static struct kt_socket client = {.name = "client"};
static struct kt_socket server = {.name = "server"};
static char out[4096], in[4096];

static void do_sendfile(void)
{
	char path[] = "/tmp/olly-test-XXXXXX";
	int file = mkstemp(path);
	off_t offset = 100;
	uint64_t t0;

	CHECK(file >= 0);
	unlink(path);
	CHECK(write(file, out, 4096) == 4096);
	kt_write(&client, out, 100);
	t0 = kt_now();
	CHECK(sendfile(client.fd, file, &offset, 1900) == 1900);
	kt_moved(&client, SEND, NULL, 1900, "b", t0);
	kt_read(&server, in, 2000);
	close(file);
}

static void splice_in(void)
{
	int pipes[2];
	uint64_t t0;

	CHECK(!pipe(pipes));
	CHECK(write(pipes[1], out, 900) == 900);
	t0 = kt_now();
	CHECK(splice(pipes[0], NULL, client.fd, NULL, 900, 0) == 900);
	kt_moved(&client, SEND, NULL, 900, "b", t0);
	kt_write(&client, out, 10);
	kt_read(&server, in, 910);
}

static void splice_out(void)
{
	int pipes[2];
	uint64_t t0;

	CHECK(!pipe(pipes));
	kt_write(&client, out, 1000);
	kt_read(&server, in, 100);
	t0 = kt_now();
	CHECK(splice(server.fd, NULL, pipes[1], NULL, 900, 0) == 900);
	kt_moved(&server, RECV, NULL, 900, "b", t0);
	kt_write(&client, out, 50);
	kt_read(&server, in, 50);
}

/* One send and one recv through a ring, by bare system calls. */
static void io_uring(void)
{
	struct io_uring_params params;
	char *sq, *cq;
	struct io_uring_sqe *sqes;
	int ring;

	memset(&params, 0, sizeof(params));
	ring = (int)syscall(SYS_io_uring_setup, 4, &params);
	if (ring < 0) {
		kt_line("skip io_uring_setup: %s", strerror(errno));
		return;
	}
	sq = mmap(NULL, params.sq_off.array + params.sq_entries * 4, PROT_READ | PROT_WRITE,
		  MAP_SHARED, ring, IORING_OFF_SQ_RING);
	cq = mmap(NULL, params.cq_off.cqes + params.cq_entries * sizeof(struct io_uring_cqe),
		  PROT_READ | PROT_WRITE, MAP_SHARED, ring, IORING_OFF_CQ_RING);
	sqes = mmap(NULL, params.sq_entries * sizeof(*sqes), PROT_READ | PROT_WRITE, MAP_SHARED,
		    ring, IORING_OFF_SQES);
	CHECK(sq != MAP_FAILED && cq != MAP_FAILED && sqes != MAP_FAILED);
	for (unsigned i = 0; i < 2; i++) {
		struct kt_socket *socket = i ? &server : &client;
		struct io_uring_cqe *cqe;
		uint64_t t0 = kt_now();

		memset(&sqes[i], 0, sizeof(sqes[i]));
		sqes[i].opcode = i ? IORING_OP_RECV : IORING_OP_SEND;
		sqes[i].fd = socket->fd;
		sqes[i].addr = (uint64_t)(uintptr_t)(i ? in : out);
		sqes[i].len = 600;
		((uint32_t *)(sq + params.sq_off.array))[i] = i;
		__atomic_store_n((uint32_t *)(sq + params.sq_off.tail), i + 1, __ATOMIC_RELEASE);
		CHECK(syscall(SYS_io_uring_enter, ring, 1, 1, IORING_ENTER_GETEVENTS, NULL, 0) ==
		      1);
		cqe = (struct io_uring_cqe *)(cq + params.cq_off.cqes) + i;
		if (cqe->res == -EINVAL) {
			kt_line("skip io_uring: this kernel has no send and recv in it");
			return;
		}
		CHECK(cqe->res == 600);
		kt_moved(socket, i ? RECV : SEND, NULL, 600, i ? "bn" : "b", t0);
	}
	close(ring);
}

int main(int argc, char **argv)
{
	CHECK(argc == 3);
	kt_fill(out, sizeof(out), 3);
	kt_pair(argv[2], &client, &server);
	if (!strcmp(argv[1], "sendfile"))
		do_sendfile();
	else if (!strcmp(argv[1], "splice_in"))
		splice_in();
	else if (!strcmp(argv[1], "splice_out"))
		splice_out();
	else if (!strcmp(argv[1], "io_uring"))
		io_uring();
	else
		return 2;
	kt_close(&client);
	kt_close(&server);
	return 0;
}
