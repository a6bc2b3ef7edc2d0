/*
 * The Event ABI: the one contract that bpf/, preload/ and src/ share. C11 and C++23.
 *
 * A record is what a producer puts into a ring. All integers are native endian, all structs are
 * naturally aligned without padding, sizes are asserted below and described in docs/events.md.
 * A record's `size` is its whole length in bytes, payload included; readers skip types they do not
 * know by it.
 *
 * Positions: byte 0 is the first byte that ever travelled in that direction of that socket (for TCP
 * the byte behind the SYN), so both ends of a connection give one byte the same position. They are
 * 64 bits wide and do not depend on when the agent started.
 */
#ifndef OLLY_EVENT_ABI_H
#define OLLY_EVENT_ABI_H

#ifdef __cplusplus
#include <cstdint>
typedef std::uint8_t olly_u8;
typedef std::uint16_t olly_u16;
typedef std::uint32_t olly_u32;
typedef std::uint64_t olly_u64;
#define OLLY_STATIC_ASSERT(cond, text) static_assert(cond, text)
#else
typedef unsigned char olly_u8;
typedef unsigned short olly_u16;
typedef unsigned int olly_u32;
typedef unsigned long long olly_u64;
#define OLLY_STATIC_ASSERT(cond, text) _Static_assert(cond, text)
#endif

#define OLLY_ABI_VERSION 1u

enum olly_record_type {
	OLLY_REC_PAD = 0,
	OLLY_REC_EXEC = 1,       /* olly_process_record: a program was started in a process */
	OLLY_REC_FORK = 2,       /* olly_process_record: a child process (not thread) was made */
	OLLY_REC_EXIT = 3,       /* olly_process_record: the process is gone */
	OLLY_REC_CONNECT = 4,    /* olly_connect_record: connect() was called (evidence for linking) */
	OLLY_REC_OPEN = 5,       /* olly_open_record: a socket's identity, before its first olly_io_record */
	OLLY_REC_IO = 6,         /* olly_io_record: bytes were moved */
	OLLY_REC_CLOSE = 7,      /* olly_close_record: the socket is gone; final positions */
	OLLY_REC_FILE_WRITE = 8, /* olly_file_record: a write to a followed log file (later issue) */
	OLLY_REC_TLS = 9,        /* olly_tls_record: what a TLS library says of a connection */
	OLLY_REC_INJECT = 10,    /* olly_inject_record: ids that are about to be written into a request */
};

enum olly_direction { OLLY_RECV = 0, OLLY_SEND = 1 };

enum olly_role { OLLY_ROLE_UNKNOWN = 0, OLLY_ROLE_INBOUND = 1, OLLY_ROLE_OUTBOUND = 2 };

enum olly_family { OLLY_FAMILY_NONE = 0, OLLY_FAMILY_INET = 4, OLLY_FAMILY_INET6 = 6, OLLY_FAMILY_UNIX = 1 };

/* olly_io_record.flags */
#define OLLY_IO_EOF 0x01u         /* recv returned 0: the peer's end of stream; length is 0 */
#define OLLY_IO_NONBLOCK 0x02u    /* the call could not have slept (O_NONBLOCK or MSG_DONTWAIT); recv only */
#define OLLY_IO_NO_BUFFER 0x04u   /* no user buffer to copy from (sendfile, splice, io_uring, kernel thread) */
#define OLLY_IO_FAULT 0x08u       /* the copy from user memory failed: fewer bytes captured than wanted */
#define OLLY_IO_OVERLAP 0x10u     /* start lies before the last end: several threads moved bytes at once */
/*
 * TLS. A connection has two layers then, each with positions of its own, under one sock. Plaintext
 * begins at 0 where the connection's beginning was seen, else anywhere but at 0.
 */
#define OLLY_IO_PLAINTEXT 0x20u   /* the bytes are what TLS protects: given to, or by, its library */
#define OLLY_IO_CIPHERTEXT 0x40u  /* moved on the socket by a TLS library; no payload once it is not wanted */

/* The plaintext layer's policy is that of sock ^ OLLY_PLAINTEXT_POLICY. */
#define OLLY_PLAINTEXT_POLICY 0x8000000000000400ull

/* olly_open_record.flags */
#define OLLY_OPEN_MET 0x01u       /* older than the agent: met at its first I/O */
#define OLLY_OPEN_OWN 0x02u       /* the agent's own socket: identity only, no I/O records follow */

struct olly_record {
	olly_u16 type;  /* enum olly_record_type */
	olly_u16 flags; /* by type */
	olly_u32 size;
	olly_u64 time_ns; /* CLOCK_MONOTONIC */
};

/* Who ran when the record was made. */
struct olly_task {
	olly_u32 pid; /* thread group id, initial pid namespace */
	olly_u32 tid;
	olly_u64 ec;      /* execution context (goroutine id); 0 = the thread itself, or unknown */
	olly_u64 cpu_ns;  /* CPU time of the thread so far, plus a constant */
	olly_u64 runq_ns; /* time the thread has waited for a CPU so far */
};

struct olly_process_record {
	struct olly_record h;
	struct olly_task task; /* of the process itself; for FORK of the child (cpu_ns and runq_ns 0) */
	olly_u32 parent_pid;
	olly_u32 reserved;
	char comm[16];
	char filename[128]; /* EXEC only: as given to execve, NUL-terminated, may be cut */
};

struct olly_connect_record {
	struct olly_record h;
	struct olly_task task;
	olly_u64 sock;
	olly_u32 error; /* 0 when the attempt begins; errno when it has failed */
	olly_u32 reserved;
};

struct olly_open_record {
	struct olly_record h;  /* time_ns: when established; when met, time of the first I/O */
	struct olly_task task; /* outbound: who called connect(); else who did the first I/O */
	olly_u64 sock;
	olly_u64 recv_pos; /* bytes already received (and read) before this record */
	olly_u64 send_pos;
	olly_u64 connect_ns; /* connect() to established; 0 = not outbound or not known */
	olly_u32 out_first;  /* TCP: sequence number of the first byte sent; UNIX: hash of this end */
	olly_u32 in_first;   /* TCP: of the first byte received; UNIX: hash of the other end */
	olly_u32 netns;      /* inode of the network namespace */
	olly_u8 family;      /* enum olly_family; v4-mapped IPv6 is given as INET */
	olly_u8 role;        /* enum olly_role */
	olly_u16 local_port; /* host byte order */
	olly_u16 remote_port;
	olly_u16 path_len; /* UNIX: bytes of path */
	olly_u32 reserved;
	olly_u8 local_addr[16]; /* network order; INET uses the first 4 */
	olly_u8 remote_addr[16];
	char path[120]; /* UNIX: the bound end's address; abstract ones begin with NUL */
};

struct olly_io_record {
	struct olly_record h; /* h.flags: OLLY_IO_* */
	struct olly_task task;
	olly_u64 sock;
	olly_u64 position;        /* of the first byte of this call */
	olly_u32 length;          /* bytes the call moved */
	olly_u32 captured_offset; /* payload[0] is the byte at position + captured_offset */
	olly_u32 captured;        /* bytes in payload */
	olly_u8 direction;        /* enum olly_direction */
	olly_u8 reserved[3];
	/* olly_u8 payload[captured] follows; h.size is rounded up to a multiple of 8, or more */
};

struct olly_close_record {
	struct olly_record h;
	olly_u64 sock;
	olly_u64 recv_pos; /* final positions: all bytes ever moved by calls */
	olly_u64 send_pos;
	olly_u32 error; /* sk_err at the end; 0 = orderly */
	olly_u32 reserved;
};

/* What cannot be read in the clear beginning of the connection; any field may be 0. */
struct olly_tls_record {
	struct olly_record h;
	olly_u64 sock;
	olly_u16 version; /* 0x0303 = TLS 1.2 */
	olly_u16 cipher;  /* IANA's number */
	olly_u32 reserved;
	char alpn[16];         /* the chosen protocol, padded with NUL, may be cut */
	char server_name[128]; /* as the client asked for it */
};

/*
 * Of a traceparent that libolly.so puts into a request which the program sends next: the span of
 * that call has these ids. Where it cannot be told, nothing is put in.
 */
struct olly_inject_record {
	struct olly_record h;
	olly_u8 trace_id[16];
	olly_u8 span_id[8];
	olly_u64 reserved;
};

struct olly_file_record {
	struct olly_record h;
	struct olly_task task;
	olly_u64 inode;
	olly_u64 offset;
	olly_u32 dev;
	olly_u32 length;
};

/*
 * What user space says about a connection: an array mapped into the agent (BPF_F_MMAPABLE), written
 * by the agent without a system call, read by the producer. A connection's slot is sock & mask; an
 * entry counts only for the sock it names, so a collision means the default policy.
 * The writer sets sock to 0, then the other fields, then sock.
 */
struct olly_policy {
	olly_u64 sock;
	olly_u64 skip_until[2]; /* by olly_direction: calls that end before this position make no record */
	olly_u32 mode;          /* enum olly_policy_mode */
	olly_u32 max_copy;      /* bytes to copy per call at most; 0 = none */
};

enum olly_policy_mode {
	OLLY_POLICY_COPY = 0,  /* copy up to max_copy bytes of each call */
	OLLY_POLICY_QUIET = 1, /* no IO records at all; CLOSE still says the final positions */
};

OLLY_STATIC_ASSERT(sizeof(struct olly_record) == 16, "record header");
OLLY_STATIC_ASSERT(sizeof(struct olly_task) == 32, "task");
OLLY_STATIC_ASSERT(sizeof(struct olly_process_record) == 200, "process record");
OLLY_STATIC_ASSERT(sizeof(struct olly_connect_record) == 64, "connect record");
OLLY_STATIC_ASSERT(sizeof(struct olly_open_record) == 256, "open record");
OLLY_STATIC_ASSERT(sizeof(struct olly_io_record) == 80, "io record");
OLLY_STATIC_ASSERT(sizeof(struct olly_close_record) == 48, "close record");
OLLY_STATIC_ASSERT(sizeof(struct olly_tls_record) == 176, "tls record");
OLLY_STATIC_ASSERT(sizeof(struct olly_inject_record) == 48, "inject record");
OLLY_STATIC_ASSERT(sizeof(struct olly_file_record) == 72, "file record");
OLLY_STATIC_ASSERT(sizeof(struct olly_policy) == 32, "policy");

#endif
