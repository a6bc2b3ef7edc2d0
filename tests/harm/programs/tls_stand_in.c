/*
 * Has the names of a TLS library and says which one it is: whose functions does a plugin reach?
 * Built twice, with another NUMBER and another soname.
 */
#define VISIBLE __attribute__((visibility("default")))
static long here[4];

VISIBLE void *SSL_new(void *context)
{
	(void)context;
	here[0] = (long)here;
	return here;
}

VISIBLE int SSL_read(void *ssl, void *buffer, int size)
{
	(void)buffer;
	return ssl == here && size == 1 ? NUMBER : -1000;
}

VISIBLE int SSL_write(void *ssl, const void *buffer, int size)
{
	(void)buffer;
	return ssl == here && size == 1 ? NUMBER * 10 : -1000;
}

VISIBLE int SSL_set_fd(void *ssl, int fd)
{
	return ssl == here && fd == 1 ? NUMBER * 100 : -1000;
}

VISIBLE void SSL_free(void *ssl)
{
	(void)ssl;
}
