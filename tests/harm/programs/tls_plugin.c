/* An object that brings a TLS library of its own along and is loaded where nobody else sees it. */
extern void *SSL_new(void *context);
extern int SSL_read(void *ssl, void *buffer, int size);
extern int SSL_write(void *ssl, const void *buffer, int size);
extern int SSL_set_fd(void *ssl, int fd);
extern void SSL_free(void *ssl);

int run(void)
{
	char buffer[16];
	void *ssl = SSL_new((void *)0);
	int result = SSL_set_fd(ssl, 1) + SSL_write(ssl, "x", 1) + SSL_read(ssl, buffer, 1);

	SSL_free(ssl);
	return result;
}
