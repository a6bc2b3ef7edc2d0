#include "agent/agent.h"

#include <fmt/format.h>
#include <unistd.h>

#include "agent/pipeline.h"
#include "base/log.h"
#include "hook/ebpf/ebpf_provider.h"
#include "hook/stub_provider.h"
#include "metrics/self.h"

namespace olly::agent {
namespace {

constexpr Nanos kIdleWait = 200 * kMillisecond;

std::string host_name() {
  char name[256] = "";
  ::gethostname(name, sizeof name - 1);
  return name;
}

}  // namespace

ResourcePtr agent_resource(const config::Config& config) {
  auto resource = std::make_shared<Resource>();
  resource->service_name = config.service_name.empty() ? "olly" : config.service_name;
  resource->pid = static_cast<std::uint32_t>(::getpid());
  AttributeList& attributes = resource->attributes;
  attributes.add("service.name", resource->service_name);
  attributes.add("service.version", OLLY_VERSION);
  attributes.add("process.pid", static_cast<std::int64_t>(resource->pid));
  attributes.add("process.executable.name", "olly");
  attributes.add("host.name", host_name());
  attributes.add("telemetry.sdk.name", "olly");
  attributes.add("telemetry.sdk.language", "cpp");
  attributes.add("telemetry.sdk.version", OLLY_VERSION);
  for (const auto& [key, value] : config.resource_attributes) {
    if (attributes.find(key) == nullptr) {
      // Keys of attributes are static text; these live as long as the configuration, which the
      // agent keeps until it ends.
      attributes.add(std::string_view(key), value);
    }
  }
  return resource;
}

Agent::Agent(AgentOptions options) : options_(std::move(options)), health_(registry_) {}

Agent::~Agent() { stop(); }

Result<std::unique_ptr<Provider>> Agent::choose_provider() {
  const config::Hook& hook = options_.config.hook;
  const bool automatic = hook.provider == config::ProviderChoice::automatic;
  if (hook.provider == config::ProviderChoice::socket) {
    return fail(ErrorCode::config, "hook.provider: 'socket' is not supported yet",
                "use auto, ebpf or stub");
  }
  if (automatic || hook.provider == config::ProviderChoice::ebpf) {
    EbpfOptions options;
    options.capture = hook.ebpf_capture;
    options.max_bytes_per_call = options_.config.capture.max_bytes_per_call;
    options.ring_bytes = hook.ebpf_ring_size;
    options.observe_unknown = options_.roots.empty();
    options.registry = &registry_;
    auto ebpf = std::make_unique<EbpfProvider>(options);
    auto started = ebpf->start();
    if (started) {
      log::info("provider ebpf, capture {}", ebpf->capture());
      return ebpf;
    }
    // `olly run` without capture would be a lie about the program it runs.
    if (!automatic || !options_.roots.empty()) return std::unexpected(started.error());
    log::warn("provider ebpf does not start: {}{}{}", started.error().message,
              started.error().hint.empty() ? "" : "; ", started.error().hint);
    log::warn("falling back to provider stub: no traffic is seen");
  }
  auto stub = std::make_unique<StubProvider>();
  return stub;
}

Result<void> Agent::start() {
  register_self_metrics(registry_);
  resource_ = agent_resource(options_.config);
  started_unix_ = monotonic_now() + monotonic_to_unix_offset();
  exporters_ = std::make_unique<Exporters>(options_.config.exporters, registry_);
  if (auto done = exporters_->start(); !done) return done;
  auto provider = choose_provider();
  if (!provider) {
    exporters_->stop();
    return std::unexpected(provider.error());
  }
  provider_ = std::move(*provider);
  // After the provider: the kernel programs know a listening socket as the agent's own by seeing it
  // begin to listen, and leave out whoever connects to it.
  if (options_.health && options_.config.health.enabled) {
    if (auto done = health_.start(options_.config.health.address); !done) {
      log::warn("{}; {}", done.error().message, done.error().hint);
    }
  }
  for (std::uint32_t pid : options_.roots) provider_->set_process(pid, {});
  pipeline_ = std::jthread([this](std::stop_token stop) { run_pipeline(stop); });
  health_.set_ready(provider_->name() != "stub");  // a stub has attached nothing
  return {};
}

void Agent::run_pipeline(std::stop_token stop) {
  PipelineOptions options{options_.config, {}, monotonic_to_unix_offset()};
  options.processes.host_name = host_name();
  options.processes.include = options_.config.hook.include;
  options.processes.exclude = options_.config.hook.exclude;
  options.processes.roots = options_.roots;
  const auto interval = static_cast<Nanos>(options_.config.metrics.interval.count()) * kMillisecond;
  Nanos next_metrics = monotonic_now() + interval;
  Pipeline pipeline(options, *provider_, exporters_->spans(), registry_,
                    [this](Nanos now) { exporters_->advance(now); });
  while (!stop.stop_requested() && provider_->poll(pipeline, kIdleWait)) {
    if (const Nanos now = monotonic_now(); now >= next_metrics) {
      next_metrics = now + interval;
      send_metrics();
    }
  }
  provider_->stop();
  provider_->poll(pipeline, 0);  // what was still in the rings
  pipeline.finish(monotonic_now());
  send_metrics();
}

void Agent::send_metrics() {
  exporters_->metrics(collect_metrics(registry_, resource_, started_unix_,
                                      monotonic_now() + monotonic_to_unix_offset()));
}

void Agent::stop() {
  health_.set_ready(false);
  if (pipeline_.joinable()) {
    pipeline_.request_stop();
    provider_->wake();
    pipeline_.join();
  }
  if (exporters_) exporters_->stop();
  health_.stop();
}

}  // namespace olly::agent
