#include "hook/ebpf/features.h"

#include <gtest/gtest.h>

namespace olly {
namespace {

// A host as Linux 6.1 with everything on.
HostFeatures linux_6_1() {
  HostFeatures host;
  host.kernel_release = "6.1.0";
  host.btf = host.sock_state = host.sys_exit = host.sched = host.ring_buffer = true;
  host.task_registers = host.socket_storage_in_tracing = true;
  return host;
}

TEST(HostFeatures, SayWhyABackEndDoesNotFit) {
  HostFeatures host = linux_6_1();
  EXPECT_EQ(host.why_not_syscall(), "");
  EXPECT_NE(host.why_not_sockio().find("6.3 or later"), std::string::npos);
  EXPECT_EQ(host.hint(), "");
  host.kernel_release = "5.10.0";
  host.task_registers = false;
  EXPECT_NE(host.why_not_syscall().find("5.10.0 does not show programs the registers"),
            std::string::npos);
  EXPECT_EQ(host.hint(), "use Linux 5.15 or later");
  host.missing_capabilities = {"CAP_BPF", "CAP_PERFMON"};
  EXPECT_EQ(host.why_not_syscall(), "missing CAP_BPF and CAP_PERFMON");
  EXPECT_EQ(host.why_not_sockio(), host.why_not_syscall());
  EXPECT_NE(host.hint().find("CAP_DAC_READ_SEARCH"), std::string::npos);
}

}  // namespace
}  // namespace olly
