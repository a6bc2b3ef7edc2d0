// One test per hooked call and family: the program's account against the events, field by field.
#include <gtest/gtest.h>
#include <sys/wait.h>

#include "harness.h"

namespace olly::kernel_test {
namespace {

struct Case {
  const char* program;
  const char* name;
  const char* family;
};

void PrintTo(const Case& value, std::ostream* out) {
  *out << value.program << ' ' << value.name << ' ' << value.family;
}

// What a back end cannot do, and why; docs/kernels.md says the same. family "" = all.
struct Limitation {
  Backend backend;
  const char* name;
  const char* family;
  bool only_payload;  // the calls are seen and counted, but no bytes copied: compared without
  const char* reason;
};
constexpr Limitation kLimitations[] = {
    {Backend::sockio, "splice_out", "", false,
     "splice out of a socket does not pass the socket tracepoints: the bytes are a gap of known "
     "size"},
    {Backend::sockio, "mmsg", "", true,
     "the hook runs once per message and cannot tell which of several it is: no bytes copied"},
    {Backend::syscall, "mmsg", "", true, "several messages in one call: counted, not copied"},
    {Backend::syscall, "io_uring", "", false,
     "io_uring makes no system call per move: the bytes are a gap of known size"},
};

class Calls : public testing::TestWithParam<Case> {
 protected:
  // One provider for all: a start costs seconds on an emulated machine.
  static void SetUpTestSuite() {
    provider_ = make_provider(0, false);
    const auto started = provider_->start();
    ASSERT_TRUE(started) << started.error().message;
  }
  static void TearDownTestSuite() {
    provider_->stop();
    provider_.reset();
  }
  static std::unique_ptr<Provider> provider_;
};
std::unique_ptr<Provider> Calls::provider_;

TEST_P(Calls, EventsAreWhatHappened) {
  const Case& test = GetParam();
  const Limitation* limitation = nullptr;
  for (const Limitation& one : kLimitations)
    if (one.backend == options().backend && std::string_view(one.name) == test.name &&
        (!*one.family || std::string_view(one.family) == test.family))
      limitation = &one;
  Program run(test.program, {test.name, test.family});
  Recorder recorder;
  recorder.follow(run.pid());
  provider_->set_process(run.pid(), ProcessVerdict{.observe = true});
  const std::uint64_t dropped = dropped_records(*provider_);
  run.begin();
  ASSERT_TRUE(run.finish(*provider_, recorder)) << "the program or the provider hangs";
  ASSERT_TRUE(WIFEXITED(run.status()) && WEXITSTATUS(run.status()) == 0)
      << "the program failed: " << run.status();
  const Truth truth = parse_truth(run.output());
  if (!truth.skip.empty()) GTEST_SKIP() << truth.skip;
  if (limitation && !limitation->only_payload) {
    conserve(recorder);  // what is not seen must still be counted
    GTEST_SKIP() << limitation->reason;
  }
  EXPECT_EQ(dropped_records(*provider_), dropped) << "records were lost";
  compare(truth, recorder, !limitation);
}

std::vector<Case> all_cases() {
  std::vector<Case> cases;
  for (const char* name : {"read_write", "readv_writev", "iovecs", "send_recv", "sendmsg_recvmsg",
                           "mmsg", "large", "short_write", "epipe", "eagain", "peek", "zero"})
    for (const char* family : {"inet", "unix"}) cases.push_back({"kt_io", name, family});
  for (const char* family : {"inet6", "v4mapped", "abstract", "socketpair"})
    cases.push_back({"kt_io", "read_write", family});
  for (const char* name : {"sendfile", "splice_in", "splice_out", "io_uring"})
    for (const char* family : {"inet", "unix"}) cases.push_back({"kt_transfer", name, family});
  for (const char* name : {"nonblocking", "accept", "accept4", "accept_null", "shutdown_write",
                           "shutdown_read", "shutdown_both", "exit_open"})
    for (const char* family : {"inet", "inet6"}) cases.push_back({"kt_life", name, family});
  for (const char* name : {"refused", "refused_nonblocking"})
    cases.push_back({"kt_life", name, "inet"});
  for (const char* name : {"dup", "fork", "scm_rights", "prefork"})
    for (const char* family : {"inet", "unix"}) cases.push_back({"kt_share", name, family});
  return cases;
}

INSTANTIATE_TEST_SUITE_P(Kernel, Calls, testing::ValuesIn(all_cases()),
                         [](const testing::TestParamInfo<Case>& one) {
                           return std::string(one.param.name) + "_" + one.param.family;
                         });

}  // namespace
}  // namespace olly::kernel_test
