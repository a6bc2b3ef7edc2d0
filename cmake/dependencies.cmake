# Everything that comes from the distribution. scripts/bootstrap.sh installs it.
find_package(PkgConfig REQUIRED)
find_package(OpenSSL REQUIRED)
find_package(yaml-cpp REQUIRED)
find_package(fmt REQUIRED)
find_package(ZLIB REQUIRED)
find_package(Threads REQUIRED)
pkg_check_modules(LIBBPF REQUIRED IMPORTED_TARGET libbpf)
pkg_check_modules(NGHTTP2 REQUIRED IMPORTED_TARGET libnghttp2)
pkg_check_modules(ZSTD REQUIRED IMPORTED_TARGET libzstd)
find_path(ZYDIS_INCLUDE Zydis/Zydis.h REQUIRED)
find_library(ZYDIS_LIBRARY Zydis REQUIRED)

add_library(olly_dependencies INTERFACE)
target_link_libraries(olly_dependencies INTERFACE
  PkgConfig::LIBBPF PkgConfig::NGHTTP2 PkgConfig::ZSTD
  OpenSSL::SSL OpenSSL::Crypto ZLIB::ZLIB ${ZYDIS_LIBRARY} deflate yaml-cpp fmt::fmt Threads::Threads)
