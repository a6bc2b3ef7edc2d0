/*
 * macOS: a hook is a function of its own and a line of the table __DATA,__interpose, by which dyld
 * replaces other objects' calls of `name` when it loads this library first (DYLD_INSERT_LIBRARIES).
 * Calls from here reach what was replaced. A line whose function nobody has is no line to dyld.
 */
#ifndef OLLY_PRELOAD_DARWIN_HOOK_H
#define OLLY_PRELOAD_DARWIN_HOOK_H

#define HOOK(result, name, ...)                                                                    \
	static result hook_##name(__VA_ARGS__);                                                    \
	__attribute__((used, section("__DATA,__interpose"))) static const struct {                 \
		const void *hook, *real;                                                           \
	} interpose_##name = {(const void *)hook_##name, (const void *)name};                      \
	static result hook_##name(__VA_ARGS__)

/* Not thread-local storage of the compiler's: dyld allocates that at its first use. */
struct olly_thread;
struct olly_thread *olly_self(void);

#endif
