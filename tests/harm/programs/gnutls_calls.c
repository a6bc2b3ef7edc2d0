/*
 * Every call of GnuTLS that libolly.so hooks; says what each gave, as tls_calls.c does.
 *
 *   gnutls_calls CERTIFICATE KEY
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <gnutls/gnutls.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "say.h"

#define SAY(call) SAY_WITH(#call, call, (void)0, (void)0)

static void run(const char *priority, char **argv)
{
	gnutls_certificate_credentials_t cred, none;
	gnutls_session_t s[2];
	int fd[2], i, small = 4096, a = GNUTLS_E_AGAIN, b = GNUTLS_E_AGAIN, waits = 0;
	long sent = 0, got = 0, r;

	gnutls_certificate_allocate_credentials(&cred);
	gnutls_certificate_allocate_credentials(&none);
	gnutls_certificate_set_x509_key_file(cred, argv[1], argv[2], GNUTLS_X509_FMT_PEM);
	socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fd);
	for (i = 0; i < 2; i++) {
		gnutls_init(&s[i], (i ? GNUTLS_SERVER | GNUTLS_NO_TICKETS : GNUTLS_CLIENT) |
					   GNUTLS_NONBLOCK);
		gnutls_priority_set_direct(s[i], priority, NULL);
		gnutls_credentials_set(s[i], GNUTLS_CRD_CERTIFICATE, i ? cred : none);
		gnutls_transport_set_int(s[i], fd[i]);
	}
	for (i = 0; i < 100 && (a != 0 || b != 0); i++) {
		if (a != 0)
			a = gnutls_handshake(s[0]);
		if (b != 0)
			b = gnutls_handshake(s[1]);
		usleep(500);
	}
	printf("handshake %d %d %s\n", a, b,
	       gnutls_protocol_get_name(gnutls_protocol_get_version(s[0])));
	fill();
	SAY(gnutls_record_send(s[0], buffer, 1000));
	SAY(gnutls_record_recv(s[1], buffer, 400));
	SAY(gnutls_record_recv(s[1], buffer, 4000));
	bytes(600);
	SAY(gnutls_record_recv(s[1], buffer, 4000));
	SAY(gnutls_record_send(s[1], buffer, 0));
	SAY(gnutls_record_send2(s[1], buffer, 300, 10, 0));
	SAY(gnutls_record_recv(s[0], buffer, 4000));
	SAY(gnutls_record_recv(s[0], buffer, 4000));
	gnutls_record_cork(s[0]);
	SAY(gnutls_record_send(s[0], buffer, 100));
	SAY(gnutls_record_send(s[0], buffer, 50));
	SAY(gnutls_record_uncork(s[0], 0));
	SAY(gnutls_record_recv(s[1], buffer, 4000));
	setsockopt(fd[0], SOL_SOCKET, SO_SNDBUF, &small, sizeof(small));
	while (got < (long)sizeof(buffer)) {
		while (sent < (long)sizeof(buffer)) {
			r = gnutls_record_send(s[0], buffer + sent, sizeof(buffer) - (size_t)sent);
			while (r == GNUTLS_E_AGAIN) { /* again, without saying what */
				static char in[30000];
				long k;

				waits++;
				while ((k = gnutls_record_recv(s[1], in, sizeof(in))) > 0)
					got += k;
				r = gnutls_record_send(s[0], NULL, 0);
			}
			if (r <= 0) {
				printf("send %ld\n", r);
				return;
			}
			sent += r;
		}
		r = gnutls_record_recv(s[1], buffer, 30000);
		if (r > 0)
			got += r;
		else if (r != GNUTLS_E_AGAIN)
			break;
	}
	printf("sent %ld got %ld waited %d\n", sent, got, waits > 0);
	SAY(gnutls_bye(s[0], GNUTLS_SHUT_WR));
	SAY(gnutls_record_recv(s[1], buffer, 4000));
	SAY(gnutls_record_recv(s[1], buffer, 4000));
	SAY(gnutls_bye(s[1], GNUTLS_SHUT_WR));
	close(fd[0]);
	SAY(gnutls_record_recv(s[1], buffer, 4000));
	SAY(gnutls_record_send(s[0], buffer, 10));
	close(fd[1]);
	gnutls_deinit(s[0]);
	gnutls_deinit(s[1]);
}

int main(int argc, char **argv)
{
	if (argc < 3)
		return 2;
	signal(SIGPIPE, SIG_IGN);
	run("NORMAL", argv);
	run("NORMAL:-VERS-ALL:+VERS-TLS1.2", argv);
	return 0;
}
