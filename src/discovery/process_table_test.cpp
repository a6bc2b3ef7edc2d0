#include "discovery/process_table.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

namespace olly::discovery {
namespace {

namespace fs = std::filesystem;
using namespace std::string_literals;

// A /proc of our own.
class ProcessTableTest : public testing::Test {
 protected:
  ProcessTableTest() {
    std::string name = (fs::temp_directory_path() / "olly-proc-XXXXXX").string();
    root_ = ::mkdtemp(name.data());
    options_.proc = root_.string();
    options_.host_name = "host-1";
  }
  ~ProcessTableTest() override { fs::remove_all(root_); }

  void add(std::uint32_t pid, const std::string& exe, const std::string& cmdline,
           const std::string& environ = "", const std::string& cgroup = "") {
    const fs::path base = root_ / std::to_string(pid);
    fs::create_directories(base);
    fs::remove(base / "exe");
    fs::create_symlink(exe, base / "exe");
    std::ofstream(base / "cmdline") << cmdline;
    std::ofstream(base / "environ") << environ;
    std::ofstream(base / "cgroup") << cgroup;
  }
  void remove(std::uint32_t pid) { fs::remove_all(root_ / std::to_string(pid)); }
  ProcessTable table() {
    return ProcessTable(options_, [this](const Process& p) { decided_[p.pid] = p.observed; });
  }
  static ProcessEvent event(ProcessEvent::Kind kind, std::uint32_t pid, std::uint32_t parent,
                            std::string_view comm = "", std::string_view filename = "") {
    ProcessEvent e;
    e.kind = kind;
    e.pid = pid;
    e.parent_pid = parent;
    e.comm = comm;
    e.filename = filename;
    return e;
  }

  fs::path root_;
  ProcessTableOptions options_;
  std::map<std::uint32_t, bool> decided_;
};

using Kind = ProcessEvent::Kind;

TEST(ServiceName, ScriptOfAnInterpreter) {
  const auto name = [](std::string_view exe, const std::string& cmdline) {
    return service_name(exe, cmdline, "");
  };
  EXPECT_EQ(name("/usr/bin/python3.11", "python3\0-u\0/srv/shop.py\0--port\0008080\0"s), "shop");
  EXPECT_EQ(name("/usr/bin/python3.11", "python3\0-W\0ignore\0shop.py\0"s), "shop");
  EXPECT_EQ(name("/usr/bin/python3.11", "python3\0-m\0http.server\0"s), "http.server");
  EXPECT_EQ(name("/usr/bin/python3.11", "python3\0-c\0import x\0"s), "python3.11");
  EXPECT_EQ(name("/usr/bin/node", "node\0--require\0./tracing.js\0server.mjs\0"s), "server");
  EXPECT_EQ(name("/usr/bin/node", "node\0--\0server.js\0"s), "server");
  EXPECT_EQ(name("/usr/lib/jvm/bin/java", "java\0-Xmx1g\0-jar\0/opt/cart.jar\0"s), "cart");
  EXPECT_EQ(name("/usr/lib/jvm/bin/java", "java\0-cp\0a.jar\0com.acme.Main\0"s), "com.acme.Main");
  EXPECT_EQ(name("/bin/dash", "sh\0./start.sh\0"s), "start");
  EXPECT_EQ(name("/usr/sbin/nginx", "nginx: worker process\0"s), "nginx");
  EXPECT_EQ(name("", ""), "unknown_service");
}

TEST(ServiceName, EnvironmentWins) {
  EXPECT_EQ(
      service_name("/usr/bin/node", "node\0server.js\0"s, "PATH=/bin\0OTEL_SERVICE_NAME=shop\0"s),
      "shop");
  EXPECT_EQ(service_name("/usr/sbin/nginx", "nginx\0"s, "OTEL_SERVICE_NAME=\0"s), "nginx");
}

TEST(ContainerId, FromCgroup) {
  const std::string id(64, 'a');
  EXPECT_EQ(container_id("0::/system.slice/docker-" + id + ".scope\n"), id);
  EXPECT_EQ(container_id("12:pids:/docker/" + id + "\n"), id);
  EXPECT_EQ(container_id("0::/kubepods.slice/pod1/cri-containerd-" + id + ".scope\n"), id);
  EXPECT_EQ(container_id("0::/machine.slice/libpod-" + id + ".scope/container\n"), id);
  EXPECT_EQ(container_id("0::/user.slice\n"), "");
  EXPECT_EQ(container_id("0::/x/" + std::string(63, 'a') + "\n"), "");
}

TEST_F(ProcessTableTest, ResourceOfAProcess) {
  add(100, "/usr/sbin/nginx (deleted)", "nginx\0"s, "",
      "0::/docker/" + std::string(64, 'b') + "\n");
  ProcessTable t = table();
  const ProcessPtr p = t.process(100);
  EXPECT_EQ(p->exe, "/usr/sbin/nginx");
  EXPECT_EQ(p->runtime, Runtime::socket_loop);
  EXPECT_TRUE(p->observed);
  const AttributeList& a = p->resource->attributes;
  for (const auto& [key, value] :
       std::map<std::string, std::string>{{"service.name", "nginx"},
                                          {"process.executable.name", "nginx"},
                                          {"process.executable.path", "/usr/sbin/nginx"},
                                          {"host.name", "host-1"},
                                          {"container.id", std::string(64, 'b')}}) {
    ASSERT_NE(a.find(key), nullptr) << key;
    EXPECT_EQ(a.string(*a.find(key)), value);
  }
  EXPECT_EQ(a.find("process.pid")->int64, 100);
}

TEST_F(ProcessTableTest, GoneProcessIsKnownByItsEvents) {
  ProcessTable t = table();
  t.on_process(event(Kind::exec, 7, 1, "curl", "/usr/bin/curl"));
  EXPECT_EQ(t.process(7)->service, "curl");
  EXPECT_EQ(t.process(8)->service, "unknown_service");
}

TEST_F(ProcessTableTest, ExecReplacesAndExitForgets) {
  add(5, "/bin/bash", "bash\0"s);
  ProcessTable t = table();
  const ProcessPtr before = t.process(5);
  add(5, "/usr/bin/node", "node\0app.js\0"s);
  EXPECT_EQ(t.process(5)->service, "bash");
  t.on_process(event(Kind::exec, 5, 1));
  EXPECT_EQ(t.process(5)->service, "app");
  EXPECT_EQ(t.process(5)->runtime, Runtime::timer_loop);
  EXPECT_EQ(before->service, "bash");
  t.on_process(event(Kind::exit, 5, 1));
  EXPECT_EQ(t.size(), 0u);
}

TEST_F(ProcessTableTest, ForkOfAReusedNumberIsAnotherProcess) {
  add(5, "/usr/sbin/nginx", "nginx\0"s);
  add(9, "/usr/bin/node", "node\0app.js\0"s);
  ProcessTable t = table();
  EXPECT_EQ(t.process(5)->service, "nginx");
  add(5, "/usr/bin/node", "node\0app.js\0"s);
  t.on_process(event(Kind::fork, 5, 9));
  EXPECT_EQ(t.process(5)->service, "app");
}

TEST_F(ProcessTableTest, IncludeAndExclude) {
  add(10, "/usr/sbin/nginx", "nginx\0"s);
  add(11, "/opt/shop/bin/cart", "cart\0"s);
  add(12, "/usr/bin/curl", "curl\0"s);
  options_.include = {{.exe = "/opt/*"}, {.service = "nginx"}};
  options_.exclude = {{.pid = 11}};
  ProcessTable t = table();
  EXPECT_TRUE(t.process(10)->observed);
  EXPECT_FALSE(t.process(11)->observed);
  EXPECT_FALSE(t.process(12)->observed);
  EXPECT_EQ(decided_, (std::map<std::uint32_t, bool>{{10, true}, {11, false}, {12, false}}));
}

TEST_F(ProcessTableTest, DescendantsOfAnIncludedNumber) {
  add(10, "/bin/bash", "bash\0"s);
  add(20, "/usr/bin/curl", "curl\0"s);
  options_.include = {{.pid = 10}};
  ProcessTable t = table();
  EXPECT_TRUE(t.process(10)->observed);
  t.on_process(event(Kind::fork, 20, 10));
  t.on_process(event(Kind::exec, 20, 10));
  t.on_process(event(Kind::fork, 21, 20));
  EXPECT_TRUE(t.process(20)->observed);
  EXPECT_TRUE(t.process(21)->observed);
  EXPECT_FALSE(t.process(22)->observed);
}

TEST_F(ProcessTableTest, NeverTheAgentItself) {
  const auto own = static_cast<std::uint32_t>(::getpid());
  add(own, "/usr/bin/olly", "olly\0"s);
  options_.include = {{.pid = own}};
  ProcessTable t = table();
  EXPECT_FALSE(t.process(own)->observed);
}

TEST_F(ProcessTableTest, Bounded) {
  options_.limit = 64;
  ProcessTable t = table();
  for (std::uint32_t pid = 1; pid < 1000; ++pid) {
    t.on_process(event(Kind::fork, pid, 1));
    t.process(pid + 1000);
    EXPECT_LE(t.size(), 65u);
  }
}

TEST_F(ProcessTableTest, ScanReadsWhatRuns) {
  add(10, "/usr/sbin/nginx", "nginx\0"s);
  fs::create_directories(root_ / "2");  // a kernel thread: no exe
  ProcessTable t = table();
  t.scan();
  EXPECT_EQ(t.size(), 1u);
  EXPECT_TRUE(decided_.contains(10));
}

}  // namespace
}  // namespace olly::discovery
