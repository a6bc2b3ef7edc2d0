# Kernel programs: bpf/*.bpf.c compiled by clang to CO-RE objects and embedded into the agent with
# .incbin, so that a user's host needs no compiler, no headers and no extra file. The symbols are
# olly_bpf_<name>_begin and olly_bpf_<name>_end.
find_program(BPF_CLANG NAMES clang clang-19 clang-18 clang-17 clang-16 clang-15 clang-14 REQUIRED)
find_program(BPF_STRIP NAMES llvm-strip llvm-strip-19 llvm-strip-18 llvm-strip-17 llvm-strip-16 llvm-strip-15
             llvm-strip-14)
if(CMAKE_SYSTEM_PROCESSOR MATCHES "aarch64|arm64")
  set(BPF_ARCH arm64)
else()
  set(BPF_ARCH x86)
endif()

set(BPF_FLAGS -target bpf -mcpu=v3 -O2 -g -Wall -Werror -D__TARGET_ARCH_${BPF_ARCH} -I${CMAKE_SOURCE_DIR}/src
    -I${CMAKE_SOURCE_DIR}/bpf -I/usr/include/${CMAKE_LIBRARY_ARCHITECTURE})

file(GLOB OLLY_BPF_PROGRAMS CONFIGURE_DEPENDS bpf/*.bpf.c)
file(GLOB OLLY_BPF_HEADERS CONFIGURE_DEPENDS bpf/common/*.h bpf/syscall/*.h bpf/tls/*.h src/event/abi.h src/hook/ebpf/kernel_abi.h)
set(OLLY_BPF_ASM "")
foreach(program ${OLLY_BPF_PROGRAMS})
  get_filename_component(name ${program} NAME)
  string(REPLACE ".bpf.c" "" name ${name})
  set(object ${CMAKE_BINARY_DIR}/bpf/${name}.bpf.o)
  set(assembly ${CMAKE_BINARY_DIR}/bpf/${name}.S)
  set(strip_command "")
  if(BPF_STRIP)
    set(strip_command COMMAND ${BPF_STRIP} -g ${object})
  endif()
  add_custom_command(
    OUTPUT ${object}
    COMMAND ${BPF_CLANG} ${BPF_FLAGS} -c ${program} -o ${object}
    ${strip_command}
    DEPENDS ${program} ${OLLY_BPF_HEADERS}
    COMMENT "BPF ${name}" VERBATIM)
  file(GENERATE OUTPUT ${assembly} CONTENT
".section .rodata
.balign 16
.globl olly_bpf_${name}_begin
.globl olly_bpf_${name}_end
olly_bpf_${name}_begin: .incbin \"${object}\"
olly_bpf_${name}_end: .byte 0
.section .note.GNU-stack,\"\",%progbits
")
  set_source_files_properties(${assembly} PROPERTIES OBJECT_DEPENDS ${object} GENERATED TRUE)
  list(APPEND OLLY_BPF_ASM ${assembly})
endforeach()

if(OLLY_BPF_ASM)
  add_library(olly_bpf STATIC ${OLLY_BPF_ASM})
  set_target_properties(olly_bpf PROPERTIES LINKER_LANGUAGE C)
endif()
