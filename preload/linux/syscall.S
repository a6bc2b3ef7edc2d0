/*
 * syscall(2) as a function, by which libraries shut a program in (seccomp), close descriptors, and
 * make children that share the stack (vfork, clone): so this leaves its own frame before the real
 * one begins, and all arguments where they were.
 */
#if defined(__x86_64__)
	.text
	.globl syscall
	.type syscall, @function
syscall:
	.cfi_startproc
	endbr64
	pushq %rdi
	.cfi_adjust_cfa_offset 8
	pushq %rsi
	.cfi_adjust_cfa_offset 8
	pushq %rdx
	.cfi_adjust_cfa_offset 8
	pushq %rcx
	.cfi_adjust_cfa_offset 8
	pushq %r8
	.cfi_adjust_cfa_offset 8
	pushq %r9
	.cfi_adjust_cfa_offset 8
	subq $8, %rsp
	.cfi_adjust_cfa_offset 8
	call olly_before_syscall
	addq $8, %rsp
	.cfi_adjust_cfa_offset -8
	popq %r9
	.cfi_adjust_cfa_offset -8
	popq %r8
	.cfi_adjust_cfa_offset -8
	popq %rcx
	.cfi_adjust_cfa_offset -8
	popq %rdx
	.cfi_adjust_cfa_offset -8
	popq %rsi
	.cfi_adjust_cfa_offset -8
	popq %rdi
	.cfi_adjust_cfa_offset -8
	movq olly_real_syscall(%rip), %rax
	testq %rax, %rax
	je 1f
	jmp *%rax
1:	/* before the real one is known */
	movq %rdi, %rax
	movq %rsi, %rdi
	movq %rdx, %rsi
	movq %rcx, %rdx
	movq %r8, %r10
	movq %r9, %r8
	movq 8(%rsp), %r9
	syscall
	movq %rax, %rdi
	jmp olly_result
	.cfi_endproc
	.size syscall, .-syscall
#endif
	.section .note.GNU-stack, "", @progbits
