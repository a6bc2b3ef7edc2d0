/*
 * Every call that libolly.so hooks, on descriptors of every kind, in the ways in which they succeed
 * and fail; each says its result, its errno and what it moved. The same output with and without the
 * library, whatever state the agent is in, is what the harm suite asks for.
 *
 *   calls SCENARIO       `calls list` names them
 *
 * calls_move.c: what moves bytes. calls_life.c: what makes, ends and hands on descriptors.
 * calls_odd.c: threads, signals, limits, and programs that shut themselves in.
 */
#include "calls.h"

int handled;
void on_signal(int s)
{
	(void)s;
	handled++;
}

void open_descriptors(void)
{
	int fd;

	printf("open:");
	for (fd = 0; fd < 400; fd++) {
		if (fcntl(fd, F_GETFD) != -1)
			printf(" %d", fd);
	}
	printf("\n");
}

#define X(name) {#name, s_##name},
static const struct {
	const char *name;
	void (*run)(void);
} scenarios[] = {SCENARIOS(X)};
#undef X

int main(int argc, char **argv)
{
	size_t i;

	alarm(60);
	if (argc > 2 && strcmp(argv[1], "after_exec") == 0)
		return after_exec(atoi(argv[2])), 0;
	for (i = 0; i < sizeof(scenarios) / sizeof(scenarios[0]); i++) {
		if (argc > 1 && strcmp(argv[1], "list") == 0)
			puts(scenarios[i].name);
		else if (argc > 1 && strcmp(argv[1], scenarios[i].name) == 0)
			return scenarios[i].run(), 0;
	}
	return argc > 1 && strcmp(argv[1], "list") == 0 ? 0 : 2;
}
