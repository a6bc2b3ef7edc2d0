#include "discovery/process_table.h"

#include <elf.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>

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

TEST(ServiceName, IsTame) {
  EXPECT_EQ(service_name("/x", "", "OTEL_SERVICE_NAME=a\x1b[31m\nb\0"s), "a_[31m_b");
  EXPECT_EQ(service_name("/x", "", "OTEL_SERVICE_NAME=" + std::string(100'000, 'a')),
            std::string(255, 'a'));
  EXPECT_EQ(service_name("/x", "", "OTEL_SERVICE_NAME=" + std::string(254, 'a') + "\u00e9"),
            std::string(254, 'a'));
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

// `olly run`: the program, what it starts, and nothing else; exec keeps that, exclude wins.
TEST_F(ProcessTableTest, RootsAndTheirDescendants) {
  add(10, "/bin/dash", "sh\0"s);
  add(11, "/usr/bin/curl", "curl\0"s);
  add(12, "/usr/bin/node", "node\0app.js\0"s);
  add(13, "/usr/bin/curl", "curl\0"s);
  add(14, "/usr/bin/secret", "secret\0"s);
  options_.roots = {10};
  options_.exclude = {{.exe = "*/secret"}};
  ProcessTable t = table();
  t.on_process(event(Kind::exec, 10, 1));
  t.on_process(event(Kind::fork, 11, 10));
  t.on_process(event(Kind::fork, 12, 11));
  t.on_process(event(Kind::exec, 12, 11));
  t.on_process(event(Kind::exit, 11, 10));  // the one between is gone: 12 stays selected
  t.on_process(event(Kind::fork, 14, 12));
  t.on_process(event(Kind::exec, 14, 12));
  EXPECT_TRUE(t.process(10)->observed);
  EXPECT_TRUE(t.process(12)->observed);
  EXPECT_FALSE(t.process(13)->observed);
  EXPECT_FALSE(t.process(14)->observed);
  add(12, "/usr/bin/curl", "curl\0"s);
  t.on_process(event(Kind::exec, 12, 11));
  EXPECT_TRUE(t.process(12)->observed);
  EXPECT_EQ(t.process(12)->service, "curl");
}

// A number that comes back under another parent has lost what its last owner was granted.
TEST_F(ProcessTableTest, ReusedNumberIsNoDescendant) {
  add(20, "/usr/bin/curl", "curl\0"s);
  options_.roots = {10};
  ProcessTable t = table();
  t.on_process(event(Kind::fork, 20, 10));
  EXPECT_TRUE(t.process(20)->observed);
  t.on_process(event(Kind::exit, 20, 10));
  t.on_process(event(Kind::fork, 20, 99));
  EXPECT_FALSE(t.process(20)->observed);
  t.on_process(event(Kind::fork, 20, 98));  // its exit was lost
  EXPECT_FALSE(t.process(20)->observed);
}

TEST_F(ProcessTableTest, GlobsOverTheWholePath) {
  add(1, "/usr/sbin/nginx", "nginx\0"s);
  options_.include = {{.exe = "/usr/*/ngin?"}};
  EXPECT_TRUE(table().process(1)->observed);
  options_.include = {{.exe = "*nginx"}};
  EXPECT_TRUE(table().process(1)->observed);
  options_.include = {{.exe = "/sbin/nginx"}, {.service = "ngin"}};
  EXPECT_FALSE(table().process(1)->observed);
}

// Files of /proc that are empty, huge or no text make no trouble.
TEST_F(ProcessTableTest, StrangeFiles) {
  add(3, "/opt/app", std::string(1'000'000, '\0'), std::string(1'000'000, 'x'),
      std::string(1'000'000, 'a'));
  add(4, "/usr/bin/python3", "", "OTEL_SERVICE_NAME", "0::/");
  ProcessTable t = table();
  EXPECT_EQ(t.process(3)->service, "app");
  EXPECT_EQ(t.process(3)->resource->attributes.find("container.id"), nullptr);
  EXPECT_EQ(t.process(4)->service, "python3");
}

// The real /proc: a program that runs, with a variable of its own, then another in its place.
TEST(ProcessTableLive, ARealProgram) {
  int release[2], ready[2];
  ASSERT_EQ(::pipe(release), 0);
  ASSERT_EQ(::pipe(ready), 0);
  std::string script =
      "echo; read x <&" + std::to_string(release[0]) + "; exec cat <&" + std::to_string(release[0]);
  std::string variable = "OTEL_SERVICE_NAME=shop";
  std::string shell = "sh", option = "-c";
  char* arguments[] = {shell.data(), option.data(), script.data(), nullptr};
  char* environment[] = {variable.data(), nullptr};
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, ready[1], 1);
  posix_spawn_file_actions_addclose(&actions, release[1]);
  pid_t child = 0;
  ASSERT_EQ(::posix_spawn(&child, "/bin/sh", &actions, nullptr, arguments, environment), 0);
  posix_spawn_file_actions_destroy(&actions);
  char byte = 0;
  ASSERT_EQ(::read(ready[0], &byte, 1), 1);  // the shell runs

  ProcessTableOptions options;
  options.include = {{.service = "shop"}};
  ProcessTable table(options, {});
  const auto pid = static_cast<std::uint32_t>(child);
  EXPECT_EQ(table.process(pid)->service, "shop");
  EXPECT_TRUE(table.process(pid)->observed);
  EXPECT_EQ(table.process(pid)->exe, fs::canonical("/bin/sh"));
  // exec: cat answers once it is there.
  ASSERT_EQ(::write(release[1], "\nx", 2), 2);
  ASSERT_EQ(::read(ready[0], &byte, 1), 1);
  ProcessEvent exec;
  exec.kind = Kind::exec;
  exec.pid = pid;
  table.on_process(exec);
  EXPECT_NE(table.process(pid)->exe, fs::canonical("/bin/sh"));
  EXPECT_EQ(table.process(pid)->service, "shop");

  for (const int fd : {release[0], release[1], ready[0], ready[1]}) ::close(fd);
  ::kill(child, SIGKILL);
  ASSERT_EQ(::waitpid(child, nullptr, 0), child);
  ProcessTable later(options, {});
  EXPECT_EQ(later.process(pid)->service, "unknown_service");
}

// An executable as small as it gets, with a .go.buildinfo section.
std::string go_program(std::string_view version) {
  const std::string names("\0.go.buildinfo\0", 15);
  std::string blob("\xff Go buildinf:", 14);
  blob += std::string("\x08\x02", 2) + std::string(16, '\0');
  blob += static_cast<char>(version.size());
  blob += version;
  blob += std::string(8, 'm');
  Elf64_Ehdr header{};
  std::memcpy(header.e_ident, ELFMAG, SELFMAG);
  header.e_ident[EI_CLASS] = ELFCLASS64;
  header.e_shentsize = sizeof(Elf64_Shdr);
  header.e_shnum = 3;
  header.e_shstrndx = 1;
  header.e_shoff = sizeof header;
  Elf64_Shdr sections[3]{};
  const std::uint64_t at = sizeof header + sizeof sections;
  sections[1].sh_offset = at;
  sections[1].sh_size = names.size();
  sections[2].sh_name = 1;
  sections[2].sh_offset = at + names.size();
  sections[2].sh_size = blob.size();
  return std::string(reinterpret_cast<const char*>(&header), sizeof header) +
         std::string(reinterpret_cast<const char*>(sections), sizeof sections) + names + blob;
}

class RuntimeTest : public testing::Test {
 protected:
  RuntimeTest() {
    std::string name = (fs::temp_directory_path() / "olly-exe-XXXXXX").string();
    const int fd = ::mkstemp(name.data());
    if (fd >= 0) ::close(fd);
    path_ = name;
  }
  ~RuntimeTest() override { fs::remove(path_); }
  Runtime of(std::string_view program, std::uint32_t& goid_offset) {
    std::ofstream(path_, std::ios::binary | std::ios::trunc) << program;
    return runtime_of("app", path_, goid_offset);
  }
  std::string path_;
};

TEST_F(RuntimeTest, GoAndItsVersion) {
  std::uint32_t offset = 1;
  for (const auto& [version, want] : std::map<std::string, std::uint32_t>{{"go1.19.8", 152},
                                                                          {"go1.26.1", 152},
                                                                          {"go1.26rc1", 152},
                                                                          {"go1.22.1", 152},
                                                                          {"go1.24.9", 160},
                                                                          {"go1.28.0", 0},
                                                                          {"go1.9", 0},
                                                                          {"go1.260", 0},
                                                                          {"devel", 0},
                                                                          {"", 0}}) {
    EXPECT_EQ(of(go_program(version), offset), Runtime::go) << version;
    EXPECT_EQ(offset, want) << version;
  }
  EXPECT_EQ(of("", offset), Runtime::unknown);
  EXPECT_EQ(of("#!/bin/sh\n", offset), Runtime::unknown);
  EXPECT_EQ(runtime_of("app", "/no/such/file", offset), Runtime::unknown);
  EXPECT_EQ(runtime_of("nginx", "/no/such/file", offset), Runtime::socket_loop);
  EXPECT_EQ(runtime_of("node", "/no/such/file", offset), Runtime::timer_loop);
  EXPECT_EQ(runtime_of("nginx-prometheus-exporter", "/no/such/file", offset), Runtime::unknown);
}

// An executable is as hostile as any bytes: every cut and every broken byte is survived.
TEST_F(RuntimeTest, BrokenExecutables) {
  const std::string whole = go_program("go1.26.1");
  std::uint32_t offset = 0;
  for (std::size_t size = 0; size < whole.size(); size += 7) of(whole.substr(0, size), offset);
  for (std::size_t i = 0; i < whole.size(); i += 2) {
    std::string broken = whole;
    broken[i] = static_cast<char>(~broken[i]);
    of(broken, offset);
    EXPECT_TRUE(offset == 0 || offset == 152 || offset == 160);
  }
}

}  // namespace
}  // namespace olly::discovery
