/*
 * What libolly.so costs: nanoseconds per hooked call, bare and with it. Runs itself again under the
 * library, in these states of the agent: absent, attached, dormant (hook.on_demand, capture off).
 * Alternates, and takes the least of
 * several rounds of each.
 *
 *   bench_preload LIBOLLY [AGENT]     without AGENT (the olly binary): bare and absent only
 *   bench_preload --round             one round; used by the above
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { FILE_WRITE, SMALL_WRITE, SMALL_READ, LARGE_WRITE, LARGE_READ, TLS_WRITE, TLS_READ, KINDS };
enum { BARE, ABSENT, ATTACHED, DORMANT, STATES };
static const char* const kind_names[KINDS] = {"write 200 B, /dev/null", "write 200 B, TCP",
                                              "read 200 B, TCP", "write 16 KiB, UNIX",
                                              "read 16 KiB, UNIX",      "SSL_write 200 B, TCP",
                                              "SSL_read 200 B, TCP"};
static char buffer[16384];

static double now(void) {
  struct timespec t;

  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static void die(const char* what) {
  perror(what);
  exit(1);
}

static void tcp_pair(int fd[2]) {
  struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  socklen_t length = sizeof(a);
  int listener = socket(AF_INET, SOCK_STREAM, 0);

  if (bind(listener, (struct sockaddr*)&a, sizeof(a)) || listen(listener, 1) ||
      getsockname(listener, (struct sockaddr*)&a, &length))
    die("listen");
  fd[0] = socket(AF_INET, SOCK_STREAM, 0);
  if (connect(fd[0], (struct sockaddr*)&a, sizeof(a))) die("connect");
  fd[1] = accept(listener, NULL, NULL);
  close(listener);
}

/* A certificate of our own, for nobody. */
static SSL_CTX* server_context(void) {
  SSL_CTX* context = SSL_CTX_new(TLS_server_method());
  EVP_PKEY* key = EVP_EC_gen("P-256");
  X509* cert = X509_new();

  ASN1_INTEGER_set(X509_get_serialNumber(cert), 1);
  X509_gmtime_adj(X509_getm_notBefore(cert), 0);
  X509_gmtime_adj(X509_getm_notAfter(cert), 3600);
  X509_set_pubkey(cert, key);
  if (!X509_sign(cert, key, EVP_sha256()) || SSL_CTX_use_certificate(context, cert) != 1 ||
      SSL_CTX_use_PrivateKey(context, key) != 1)
    die("certificate");
  SSL_CTX_set_num_tickets(context, 0);
  return context;
}

/* All of it, however often the library wants to be asked. */
static void move(SSL* ssl, int writes) {
  int n;

  do {
    n = writes ? SSL_write(ssl, buffer, 200) : SSL_read(ssl, buffer, 200);
  } while (n <= 0 && (SSL_get_error(ssl, n) == SSL_ERROR_WANT_READ ||
                      SSL_get_error(ssl, n) == SSL_ERROR_WANT_WRITE));
  if (n == 200) return;
  ERR_print_errors_fp(stderr);
  die(writes ? "SSL_write" : "SSL_read");
}

/* Two ends in one thread, shaken hands. */
static void tls_pair(SSL* ssl[2]) {
  int fd[2], i, a = 0, b = 0;

  tcp_pair(fd);
  ssl[0] = SSL_new(SSL_CTX_new(TLS_client_method()));
  ssl[1] = SSL_new(server_context());
  for (i = 0; i < 2; i++) {
    SSL_set_fd(ssl[i], fd[i]);
    fcntl(fd[i], F_SETFL, O_NONBLOCK);
  }
  for (i = 0; i < 5000 && (a != 1 || b != 1); i++) {
    if (a != 1) a = SSL_connect(ssl[0]);
    if (b != 1) b = SSL_accept(ssl[1]);
    usleep(1000);
  }
  if (a != 1 || b != 1) {
    ERR_print_errors_fp(stderr);
    die("handshake");
  }
  for (i = 0; i < 2; i++) fcntl(fd[i], F_SETFL, 0);
}

static double sum(const double least[8])
{
	double all = 0;
	int i;

	for (i = 0; i < 8; i++)
		all += least[i] / 8;
	return all;
}

/*
 * Eight written, eight read, and again. The least of each place counts: acknowledgements and timers
 * of TCP cost single calls microseconds, with the library or without. The pauses let the agent keep
 * up: a record that finds no room costs less than one that does.
 */
static void pair(int out, int in, size_t size, int blocks, double *write_ns, double *read_ns)
{
	double writes[8], reads[8];
	int block, i;

	for (i = 0; i < 8; i++)
		writes[i] = reads[i] = 1e18;
	for (block = 0; block < blocks; block++) {
		for (i = 0; i < 8; i++) {
			double t = now();

			if (write(out, buffer, size) != (ssize_t)size)
				die("write");
			t = now() - t;
			if (t < writes[i])
				writes[i] = t;
		}
		for (i = 0; i < 8; i++) {
			double t = now();

			if (recv(in, buffer, size, MSG_WAITALL) != (ssize_t)size)
				die("recv");
			t = now() - t;
			if (t < reads[i])
				reads[i] = t;
		}
		usleep(size > 1000 ? 2000 : 200);
	}
	*write_ns = sum(writes);
	*read_ns = sum(reads);
}

/* As pair() does, through TLS: 200 bytes a record. */
static void pair_tls(int blocks, double* write_ns, double* read_ns) {
  double writes[8], reads[8];
  SSL* ssl[2];
  int block, i;

  tls_pair(ssl);
  for (i = 0; i < 8; i++) writes[i] = reads[i] = 1e18;
  for (block = 0; block < blocks; block++) {
    for (i = 0; i < 8; i++) {
      double t = now();

      move(ssl[0], 1);
      t = now() - t;
      if (t < writes[i]) writes[i] = t;
    }
    for (i = 0; i < 8; i++) {
      double t = now();

      move(ssl[1], 0);
      t = now() - t;
      if (t < reads[i]) reads[i] = t;
    }
    usleep(200);
  }
  *write_ns = sum(writes);
  *read_ns = sum(reads);
}

static int round_of(void) {
  int tcp[2], local[2], null = open("/dev/null", O_WRONLY), i, block;
  double ns[KINDS], least = 1e18;

  tcp_pair(tcp);
  if (socketpair(AF_UNIX, SOCK_STREAM, 0, local)) die("socketpair");
  i = 1 << 20;
  setsockopt(local[0], SOL_SOCKET, SO_SNDBUF, &i, sizeof(i));
  /* HTTP/1 without an end, so that the agent reads on and no policy makes it quiet. */
  memset(buffer, 'x', sizeof(buffer));
  memcpy(buffer, "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", 47);
  for (block = 0; block < 2000; block++) {
    double t0 = now();

    for (i = 0; i < 32; i++) {
      if (write(null, buffer, 200) != 200) die("write");
    }
    if (now() - t0 < least) least = now() - t0;
  }
  ns[FILE_WRITE] = least / 32;
  pair(tcp[0], tcp[1], 200, 2000, &ns[SMALL_WRITE], &ns[SMALL_READ]);
  pair(local[0], local[1], 16384, 200, &ns[LARGE_WRITE], &ns[LARGE_READ]);
  pair_tls(2000, &ns[TLS_WRITE], &ns[TLS_READ]);
  for (i = 0; i < KINDS; i++) printf("%.1f ", ns[i]);
  printf("\n");
  return 0;
}

static void run_round(const char* self, const char* library, const char* path,
                      double least[KINDS]) {
  int p[2], i;
  double ns;
  pid_t child;
  FILE* out;

  if (pipe(p)) die("pipe");
  child = fork();
  if (child == 0) {
    dup2(p[1], 1);
    close(p[0]);
    close(p[1]);
    if (library) {
      setenv("LD_PRELOAD", library, 1);
      setenv("OLLY_HOOK_SOCKET_PATH", path, 1);
    }
    execl(self, self, "--round", (char*)NULL);
    _exit(127);
  }
  close(p[1]);
  out = fdopen(p[0], "r");
  for (i = 0; i < KINDS; i++) {
    if (fscanf(out, "%lf", &ns) != 1) {
      fprintf(stderr, "bench_preload: a round failed\n");
      exit(1);
    }
    if (ns < least[i]) least[i] = ns;
  }
  fclose(out);
  waitpid(child, NULL, 0);
}

static pid_t start_agent(const char* agent, const char* path, int dormant) {
  pid_t child = fork();
  struct stat status;
  int i;

  if (child == 0) {
    int null = open("/dev/null", O_RDWR);

    prctl(PR_SET_PDEATHSIG, SIGTERM); /* it does not outlive a benchmark that is stopped */
    dup2(null, 1);
    dup2(null, 2);
    setenv("OLLY_HOOK_PROVIDER", "socket", 1);
    setenv("OLLY_HOOK_SOCKET_PATH", path, 1);
    setenv("OLLY_HEALTH_ENABLED", "false", 1);
    if (dormant) setenv("OLLY_HOOK_ON_DEMAND", "true", 1);
    execl(agent, agent, (char*)NULL);
    _exit(127);
  }
  for (i = 0; i < 500 && stat(path, &status) != 0; i++) usleep(10000);
  return child;
}

int main(int argc, char** argv) {
  char folder[] = "/tmp/olly-bench-XXXXXX", path[64], none[64], quiet[64];
  double least[STATES][KINDS];
  pid_t agent = 0, dormant = 0;
  int s, k, turn;

  if (argc == 2 && strcmp(argv[1], "--round") == 0) return round_of();
  if (argc < 2 || !mkdtemp(folder)) {
    fprintf(stderr, "usage: bench_preload LIBOLLY [AGENT]\n");
    return 2;
  }
  snprintf(path, sizeof(path), "%s/hook.sock", folder);
  snprintf(quiet, sizeof(quiet), "%s/quiet.sock", folder);
  snprintf(none, sizeof(none), "%s/none", folder);
  for (s = 0; s < STATES; s++)
    for (k = 0; k < KINDS; k++) least[s][k] = 1e18;
  if (argc > 2) {
    agent = start_agent(argv[2], path, 0);
    dormant = start_agent(argv[2], quiet, 1);
  }
  for (turn = 0; turn < 5; turn++) {
    run_round("/proc/self/exe", NULL, NULL, least[BARE]);
    run_round("/proc/self/exe", argv[1], none, least[ABSENT]);
    if (!agent) continue;
    run_round("/proc/self/exe", argv[1], path, least[ATTACHED]);
    run_round("/proc/self/exe", argv[1], quiet, least[DORMANT]);
  }
  if (agent) {
    kill(agent, SIGTERM);
    kill(dormant, SIGTERM);
    waitpid(agent, NULL, 0);
    waitpid(dormant, NULL, 0);
  }
  rmdir(folder);
  printf("%-24s %10s %10s %10s %10s   ns a call\n", "", "bare", "absent", "attached", "dormant");
  for (k = 0; k < KINDS; k++) {
    printf("%-24s %10.1f %+10.1f", kind_names[k], least[BARE][k],
           least[ABSENT][k] - least[BARE][k]);
    if (agent)
      printf(" %+10.1f %+10.1f", least[ATTACHED][k] - least[BARE][k],
             least[DORMANT][k] - least[BARE][k]);
    printf("\n");
  }
  return 0;
}
