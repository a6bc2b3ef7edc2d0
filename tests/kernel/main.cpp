// olly_kernel_tests --capture sockio|syscall [--programs DIR] [gtest options]. Root only.
#include <fmt/core.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdio>
#include <filesystem>
#include <string_view>

#include "harness.h"

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  olly::kernel_test::Options options;
  options.programs = std::filesystem::read_symlink("/proc/self/exe").parent_path().string();
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string_view key = argv[i], value = argv[i + 1];
    if (key == "--capture" && (value == "sockio" || value == "syscall")) {
      options.backend = value == "sockio" ? olly::kernel_test::Backend::sockio
                                          : olly::kernel_test::Backend::syscall;
    } else if (key == "--programs") {
      options.programs = value;
    } else {
      fmt::print(stderr, "usage: {} [--capture sockio|syscall] [--programs DIR]\n", argv[0]);
      return 2;
    }
  }
  olly::kernel_test::set_options(options);
  // One trial start: a machine that cannot run these tests says so once, instead of in every test.
  const auto provider = olly::kernel_test::make_provider();
  if (const auto started = provider->start(); !started) {
    fmt::print("kernel tests skipped: {}. {}\n", started.error().message, started.error().hint);
    const bool cannot = started.error().code == olly::ErrorCode::privilege ||
                        started.error().code == olly::ErrorCode::unsupported;
    return cannot ? 77 : 1;
  }
  provider->stop();
  return RUN_ALL_TESTS();
}
