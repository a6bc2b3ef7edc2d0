/* As interpreters do: loads plugins where nobody else sees them, runs them, unloads them; at last all
 * at once. */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>

static int (*load(const char *path, void **handle))(void)
{
	*handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
	if (!*handle) {
		printf("%s\n", dlerror());
		exit(1);
	}
	return (int (*)(void))dlsym(*handle, "run");
}

int main(int argc, char **argv)
{
	int (*run[8])(void);
	void *handles[8];
	int round, i;

	for (round = 0; round < 3; round++) {
		for (i = 1; i < argc && i < 8; i++) {
			run[i] = load(argv[i], &handles[i]);
			printf("%d ", run[i]());
			if (dlclose(handles[i]) != 0)
				printf("not unloaded ");
		}
	}
	for (i = 1; i < argc && i < 8; i++)
		run[i] = load(argv[i], &handles[i]);
	printf("both ");
	for (i = 1; i < argc && i < 8; i++)
		printf("%d ", run[i]());
	printf("dlerror %s\n", dlerror() ? "set" : "none");
	return 0;
}
