/*
 * What every library with OpenSSL's names has, whichever it is (OpenSSL 1.1, BoringSSL), declared
 * here since no header is installed for them. Says what each call gave, as tls_calls.c does; its
 * messages are HTTP/1.1, so that an agent can say what it read.
 *
 *   tls_any CERTIFICATE KEY
 */
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "say.h"

extern void *TLS_method(void);
extern void *SSL_CTX_new(const void *method);
extern int SSL_CTX_use_certificate_chain_file(void *context, const char *file);
extern int SSL_CTX_use_PrivateKey_file(void *context, const char *file, int type);
extern void *SSL_new(void *context);
extern int SSL_set_fd(void *ssl, int fd);
extern int SSL_connect(void *ssl);
extern int SSL_accept(void *ssl);
extern int SSL_write(void *ssl, const void *from, int size);
extern int SSL_read(void *ssl, void *to, int size);
extern int SSL_get_error(const void *ssl, int result);
extern int SSL_shutdown(void *ssl);
extern const char *SSL_get_version(const void *ssl);
extern void SSL_free(void *ssl);

#define SAY(ssl, call)                                                                             \
	SAY_WITH(#call, call, (void)0, printf(" error %d", SSL_get_error(ssl, (int)said)))

static void exchange(void *client, void *server, size_t size)
{
	const char *const ask = "POST /any HTTP/1.1\r\nHost: any\r\nContent-Length: ";
	char head[200];
	size_t sent, got = 0;
	int n = snprintf(head, sizeof(head), "%s%zu\r\n\r\n", ask, size), r;

	SAY(client, SSL_write(client, head, n));
	SAY(server, SSL_read(server, buffer, 5)); /* the rest of the record waits in the library */
	SAY(server, SSL_read(server, buffer, 1000));
	bytes((size_t)n - 5);
	fill();
	for (sent = 0; sent < size; sent += (size_t)r) {
		const size_t part = size - sent < 10000 ? size - sent : 10000;

		r = SSL_write(client, buffer + sent, (int)part);
		if (r != (int)part)
			exit(3);
		while (got < sent + part) {
			r = SSL_read(server, buffer + got, 100000);
			if (r <= 0)
				exit(4);
			got += (size_t)r;
		}
		r = (int)part;
	}
	bytes(got);
	n = snprintf(head, sizeof(head), "HTTP/1.1 204 No Content\r\n\r\n");
	SAY(server, SSL_write(server, head, n));
	SAY(client, SSL_read(client, buffer, 1000));
	bytes((size_t)n);
}

int main(int argc, char **argv)
{
	void *context[2], *ssl[2];
	int fd[2], i, a = 0, b = 0;

	if (argc < 3)
		return 2;
	signal(SIGPIPE, SIG_IGN);
	tcp_pair(fd);
	for (i = 0; i < 2; i++) {
		context[i] = SSL_CTX_new(TLS_method());
		if (i && (SSL_CTX_use_certificate_chain_file(context[i], argv[1]) != 1 ||
			  SSL_CTX_use_PrivateKey_file(context[i], argv[2], 1) != 1))
			return 3;
		ssl[i] = SSL_new(context[i]);
		SAY(ssl[i], SSL_set_fd(ssl[i], fd[i]));
		fcntl(fd[i], F_SETFL, O_NONBLOCK);
	}
	for (i = 0; i < 2000 && (a != 1 || b != 1); i++) {
		if (a != 1)
			a = SSL_connect(ssl[0]);
		if (b != 1)
			b = SSL_accept(ssl[1]);
		usleep(1000);
	}
	printf("handshake %d %d %s\n", a, b, SSL_get_version(ssl[0]));
	SAY(ssl[1], SSL_read(ssl[1], buffer, 100)); /* nothing is there */
	for (i = 0; i < 2; i++)
		fcntl(fd[i], F_SETFL, 0);
	exchange(ssl[0], ssl[1], 0);
	exchange(ssl[0], ssl[1], 55555);
	SAY(ssl[0], SSL_shutdown(ssl[0]));
	SAY(ssl[1], SSL_read(ssl[1], buffer, 100));
	SAY(ssl[1], SSL_shutdown(ssl[1]));
	SSL_free(ssl[0]);
	SSL_free(ssl[1]);
	close(fd[0]);
	close(fd[1]);
	return 0;
}
