// A device of torch's kind PrivateUse1, as vendors bring them, over the host's memory: an allocator, a guard with events, hooks,
// and one boxed kernel behind every operator that torch's CPU has. The kernel lets the CPU's work on the same bytes: storages are
// given another label, not copied.
//
// Environment variables, with commas between several values:
//   TOY_FAULTS     KIND:OPERATOR:ROWS[:CALLS], where the first tensor has so many rows, and only after so many such calls.
//                  wrong: results are 1 % too large; hang: the call never returns; abort: the process ends in it
//   TOY_LACKS      operators that the device has not
//   TOY_FALLBACK   operators that it runs on the CPU by at::native::cpu_fallback, which says nothing
//   TOY_MEMORY     bytes of memory
#include <ATen/ATen.h>
#include <ATen/EmptyTensor.h>
#include <ATen/detail/PrivateUse1HooksInterface.h>
#include <ATen/native/CPUFallback.h>
#include <c10/core/CachingDeviceAllocator.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>
#include <torch/library.h>

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <set>
#include <sstream>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace {

constexpr auto kToy = c10::DeviceType::PrivateUse1;
constexpr c10::DeviceIndex kDevices = 2;
thread_local c10::DeviceIndex current = 0;
std::atomic<int64_t> synchronised{0};

std::string variable(const char* name) {
  const char* value = std::getenv(name);
  return value ? value : "";
}

int64_t number(const char* name, int64_t otherwise) {
  const std::string text = variable(name);
  return text.empty() ? otherwise : std::stoll(text);
}

std::vector<std::string> parts(const std::string& text, char between) {
  std::vector<std::string> found;
  std::stringstream stream(text);
  for (std::string one; std::getline(stream, one, between);) found.push_back(one);
  return found;
}

std::set<std::string> operators(const char* name) {
  std::set<std::string> found;
  for (const auto& one : parts(variable(name), ',')) found.insert("aten::" + one);
  return found;
}

// -- memory ---------------------------------------------------------------------------------------------------------------

const int64_t kMemory = number("TOY_MEMORY", int64_t(64) << 30);
std::atomic<int64_t> allocated{0}, peak{0};

void take(int64_t bytes) {
  const int64_t now = allocated += bytes;
  if (now > kMemory) {
    allocated -= bytes;
    TORCH_CHECK_WITH(OutOfMemoryError, false, "toy: out of memory: ", bytes, " bytes asked for, ", kMemory - now + bytes, " free");
  }
  for (int64_t most = peak; now > most && !peak.compare_exchange_weak(most, now);) {
  }
}

struct Block {
  void* begin;
  int64_t bytes;
};

void release(void* context) {
  auto* block = static_cast<Block*>(context);
  allocated -= block->bytes;
  std::free(block->begin);
  delete block;
}

struct Allocator final : c10::DeviceAllocator {
  c10::DataPtr allocate(size_t bytes) override {
    take(static_cast<int64_t>(bytes));
    void* begin = nullptr;
    if (bytes) TORCH_CHECK(!posix_memalign(&begin, 64, (bytes + 63) / 64 * 64), "toy: the host is out of memory");
    return {begin, new Block{begin, static_cast<int64_t>(bytes)}, &release, c10::Device(kToy, current)};
  }
  c10::DeleterFnPtr raw_deleter() const override { return nullptr; }
  void copy_data(void* to, const void* from, size_t bytes) const override { std::memcpy(to, from, bytes); }
  bool initialized() override { return true; }
  void emptyCache(c10::MempoolId_t = {0, 0}) override {}
  void recordStream(const c10::DataPtr&, c10::Stream) override {}
  c10::CachingDeviceAllocator::DeviceStats getDeviceStats(c10::DeviceIndex) override {
    c10::CachingDeviceAllocator::DeviceStats stats;
    stats.allocated_bytes[0].current = allocated;
    stats.allocated_bytes[0].peak = peak;
    stats.reserved_bytes[0] = stats.allocated_bytes[0];
    return stats;
  }
  void resetAccumulatedStats(c10::DeviceIndex) override {}
  void resetPeakStats(c10::DeviceIndex) override { peak = allocated.load(); }
  std::pair<size_t, size_t> getMemoryInfo(c10::DeviceIndex) override {
    return {static_cast<size_t>(kMemory - allocated), static_cast<size_t>(kMemory)};
  }
};

Allocator allocator;
REGISTER_ALLOCATOR(kToy, &allocator);

// -- devices, streams, events ---------------------------------------------------------------------------------------------

using Instant = std::chrono::steady_clock::time_point;

struct Guard final : c10::impl::DeviceGuardImplInterface {
  c10::DeviceType type() const override { return kToy; }
  c10::Device exchangeDevice(c10::Device device) const override {
    const auto before = current;
    if (device.index() >= 0) current = device.index();
    return c10::Device(kToy, before);
  }
  c10::Device getDevice() const override { return c10::Device(kToy, current); }
  void setDevice(c10::Device device) const override { exchangeDevice(device); }
  void uncheckedSetDevice(c10::Device device) const noexcept override { exchangeDevice(device); }
  c10::Stream getStream(c10::Device device) const override {
    return c10::Stream(c10::Stream::DEFAULT, c10::Device(kToy, device.index() < 0 ? current : device.index()));
  }
  c10::Stream getDefaultStream(c10::Device device) const override { return getStream(device); }
  c10::Stream getNewStream(c10::Device device, int = 0) const override { return getStream(device); }
  c10::Stream getStreamFromGlobalPool(c10::Device device, bool = false) const override { return getStream(device); }
  c10::Stream exchangeStream(c10::Stream stream) const override { return stream; }
  c10::DeviceIndex deviceCount() const noexcept override { return kDevices; }
  c10::DeviceCapability getDeviceCapability(c10::Device) const override { return c10::DeviceCapability(); }
  void record(void** event, const c10::Stream&, const c10::DeviceIndex, const c10::EventFlag) const override {
    if (!*event) *event = new Instant;
    *static_cast<Instant*>(*event) = std::chrono::steady_clock::now();
  }
  void block(void*, const c10::Stream&) const override {}
  bool queryEvent(void*) const override { return true; }
  void destroyEvent(void* event, const c10::DeviceIndex) const noexcept override { delete static_cast<Instant*>(event); }
  double elapsedTime(void* from, void* to, const c10::DeviceIndex) const override {
    return std::chrono::duration<double, std::milli>(*static_cast<Instant*>(to) - *static_cast<Instant*>(from)).count();
  }
  bool queryStream(const c10::Stream&) const override { return true; }
  void synchronizeStream(const c10::Stream&) const override { ++synchronised; }
  void synchronizeEvent(void*) const override {}
  void synchronizeDevice(const c10::DeviceIndex) const override { ++synchronised; }
};

C10_REGISTER_GUARD_IMPL(PrivateUse1, Guard);

struct Hooks final : at::PrivateUse1HooksInterface {
  bool isBuilt() const override { return true; }
  bool isAvailable() const override { return true; }
  bool hasPrimaryContext(c10::DeviceIndex) const override { return true; }
  c10::DeviceIndex deviceCount() const override { return kDevices; }
  c10::DeviceIndex getCurrentDevice() const override { return current; }
  void setCurrentDevice(c10::DeviceIndex device) const override { current = device; }
  c10::DeviceIndex exchangeDevice(c10::DeviceIndex device) const override { return std::exchange(current, device); }
  c10::DeviceIndex maybeExchangeDevice(c10::DeviceIndex device) const override {
    return device < 0 ? current : std::exchange(current, device);
  }
  at::Generator getNewGenerator(c10::DeviceIndex = -1) const override { return at::detail::createCPUGenerator(); }
  const at::Generator& getDefaultGenerator(c10::DeviceIndex) const override { return at::detail::getDefaultCPUGenerator(); }
  c10::Device getDeviceFromPtr(void*) const override { return c10::Device(kToy, current); }
  void resizePrivateUse1Bytes(const c10::Storage& storage, size_t bytes) const override {
    auto data = allocator.allocate(bytes);
    std::memcpy(data.mutable_get(), storage.data(), std::min(bytes, storage.nbytes()));
    storage.set_data_ptr(std::move(data));
    storage.set_nbytes(bytes);
  }
};

Hooks hooks;
const bool hooked = (at::RegisterPrivateUse1HooksInterface(&hooks), true);

// -- the same bytes under the other label ---------------------------------------------------------------------------------

struct Kept {
  c10::Storage storage;
  int64_t bytes;  // of the device's memory
};

void forget(void* context) {
  auto* kept = static_cast<Kept*>(context);
  allocated -= kept->bytes;
  delete kept;
}

c10::Storage relabelled(const c10::Storage& storage, c10::Device device) {
  const int64_t bytes = device.is_cpu() ? 0 : static_cast<int64_t>(storage.nbytes());
  take(bytes);
  c10::DataPtr data(storage.mutable_data(), new Kept{storage, bytes}, &forget, device);
  c10::Allocator* owner = device.is_cpu() ? c10::GetAllocator(c10::kCPU) : &allocator;
  return c10::Storage(c10::Storage::use_byte_size_t(), storage.nbytes(), std::move(data), owner, true);
}

at::Tensor tensor_on(c10::Storage storage, const at::Tensor& like, c10::DispatchKey key) {
  auto made = at::detail::make_tensor<c10::TensorImpl>(std::move(storage), c10::DispatchKeySet(key), like.dtype());
  made.unsafeGetTensorImpl()->set_sizes_and_strides(like.sizes(), like.strides(), like.storage_offset());
  return made;
}

struct Pair {
  at::Tensor toy, cpu;
};

class Pairs {
 public:
  at::Tensor cpu_of(const at::Tensor& toy) {
    if (!toy.defined() || toy.device().type() != kToy) return toy;
    for (const auto& pair : pairs_)
      if (pair.toy.is_same(toy)) return pair.cpu;
    c10::Storage storage;
    for (const auto& pair : pairs_)
      if (!storage && pair.toy.storage().is_alias_of(toy.storage())) storage = pair.cpu.storage();
    if (!storage) storage = relabelled(toy.storage(), c10::Device(c10::kCPU));
    pairs_.push_back({toy, tensor_on(storage, toy, c10::DispatchKey::CPU)});
    return pairs_.back().cpu;
  }

  at::Tensor toy_of(const at::Tensor& cpu) const {
    if (!cpu.defined() || !cpu.device().is_cpu()) return cpu;
    for (const auto& pair : pairs_)
      if (pair.cpu.is_same(cpu)) return pair.toy;
    for (const auto& pair : pairs_)
      if (pair.cpu.storage().is_alias_of(cpu.storage()))
        return tensor_on(pair.toy.storage(), cpu, c10::DispatchKey::PrivateUse1);
    return tensor_on(relabelled(cpu.storage(), c10::Device(kToy, current)), cpu, c10::DispatchKey::PrivateUse1);
  }

  // What `out=` kernels resized.
  void follow() const {
    for (const auto& [toy, cpu] : pairs_) {
      auto *to = toy.unsafeGetTensorImpl(), *from = cpu.unsafeGetTensorImpl();
      if (cpu.storage().nbytes() != toy.storage().nbytes())
        to->set_storage_keep_dtype(relabelled(cpu.storage(), toy.device()));
      to->set_sizes_and_strides(from->sizes(), from->strides(), from->storage_offset());
    }
  }

 private:
  std::vector<Pair> pairs_;
};

// -- the kernel -----------------------------------------------------------------------------------------------------------

struct Fault {
  std::string kind, name;
  int64_t rows, calls;
};

std::vector<Fault> planted() {
  std::vector<Fault> found;
  for (const auto& text : parts(variable("TOY_FAULTS"), ',')) {
    const auto fields = parts(text, ':');
    const int64_t calls = fields.size() > 3 ? std::stoll(fields[3]) : 0;
    found.push_back({fields.at(0), "aten::" + fields.at(1), std::stoll(fields.at(2)), calls});
  }
  return found;
}

std::vector<Fault> faults = planted();

// True where the results of this call are to be wrong.
bool struck(const std::string& name, int64_t rows) {
  for (auto& fault : faults) {
    if (fault.name != name || fault.rows != rows || fault.calls-- > 0) continue;
    if (fault.kind == "abort") std::abort();
    while (fault.kind == "hang") std::this_thread::sleep_for(std::chrono::seconds(1));
    return true;
  }
  return false;
}

template <typename Change>
void each_tensor(c10::IValue& value, Change change) {
  if (value.isTensor()) {
    value = change(value.toTensor());
  } else if (value.isTensorList()) {
    std::vector<at::Tensor> changed;
    for (const at::Tensor one : value.toTensorList()) changed.push_back(change(one));
    value = changed;
  } else if (value.isOptionalTensorList()) {
    c10::List<std::optional<at::Tensor>> changed;
    for (const std::optional<at::Tensor> one : value.toOptionalTensorList())
      changed.push_back(one ? std::optional<at::Tensor>(change(*one)) : one);
    value = changed;
  }
}

bool takes_ids_of_the_host(const std::string& name) { return name.find("index") != std::string::npos; }

void kernel(const c10::OperatorHandle& op, c10::DispatchKeySet, torch::jit::Stack* stack) {
  const auto& schema = op.schema();
  Pairs pairs;
  bool on_toy = false, on_host = false;
  int64_t rows = -1;
  for (size_t at = stack->size() - schema.arguments().size(); at < stack->size(); ++at) {
    auto& value = (*stack)[at];
    each_tensor(value, [&](const at::Tensor& one) {
      if (rows < 0 && one.defined() && one.dim()) rows = one.size(0);
      on_toy |= one.defined() && one.device().type() == kToy;
      on_host |= one.defined() && one.device().is_cpu() && one.dim() > 0;
      return pairs.cpu_of(one);
    });
    if (value.isDevice() && value.toDevice().type() == kToy) value = c10::Device(c10::kCPU);
  }
  TORCH_CHECK(!(on_toy && on_host) || takes_ids_of_the_host(schema.name()), "toy: tensors of two devices in ", schema.name());
  const bool wrong = struck(schema.name(), rows);
  op.redispatchBoxed(c10::DispatchKeySet(c10::DispatchKey::CPU), stack);
  pairs.follow();
  for (size_t at = stack->size() - schema.returns().size(); at < stack->size(); ++at)
    each_tensor((*stack)[at], [&](const at::Tensor& one) {
      if (wrong && one.is_floating_point()) one.mul_(1.01);
      return pairs.toy_of(one);
    });
}

void on_the_host(const c10::OperatorHandle& op, c10::DispatchKeySet, torch::jit::Stack* stack) {
  at::native::cpu_fallback(op, stack);
}

at::Tensor empty(at::IntArrayRef sizes, std::optional<at::ScalarType> dtype, std::optional<at::Layout>,
                 std::optional<at::Device> device, std::optional<bool>, std::optional<at::MemoryFormat> format) {
  const c10::DeviceGuard guard(c10::Device(kToy, device && device->has_index() ? device->index() : current));
  const auto type = dtype.value_or(at::typeMetaToScalarType(at::get_default_dtype()));
  return at::detail::empty_generic(sizes, &allocator, c10::DispatchKeySet(c10::DispatchKey::PrivateUse1), type, format);
}

at::Tensor empty_strided(at::IntArrayRef sizes, at::IntArrayRef strides, std::optional<at::ScalarType> dtype,
                         std::optional<at::Layout>, std::optional<at::Device> device, std::optional<bool>) {
  const c10::DeviceGuard guard(c10::Device(kToy, device && device->has_index() ? device->index() : current));
  const auto type = dtype.value_or(at::typeMetaToScalarType(at::get_default_dtype()));
  return at::detail::empty_strided_generic(
      sizes, strides, &allocator, c10::DispatchKeySet(c10::DispatchKey::PrivateUse1), type);
}

at::Tensor copy_from(const at::Tensor& from, const at::Tensor& to, bool) {
  Pairs pairs;
  pairs.cpu_of(to).copy_(pairs.cpu_of(from));
  return to;
}

void register_every_operator(torch::Library& library) {
  const std::set<std::string> own{"aten::empty.memory_format", "aten::empty_strided", "aten::_copy_from"};
  const auto lacks = operators("TOY_LACKS"), falls_back = operators("TOY_FALLBACK");
  auto& dispatcher = c10::Dispatcher::singleton();
  for (const auto& name : dispatcher.getAllOpNamesForDispatchKey(c10::DispatchKey::CPU)) {
    const std::string full = name.overload_name.empty() ? name.name : name.name + "." + name.overload_name;
    if (name.name.rfind("aten::", 0) != 0 || own.count(full) || lacks.count(name.name)) continue;
    library.impl(full.c_str(), falls_back.count(name.name) ? torch::CppFunction::makeFromBoxedFunction<&on_the_host>()
                                                           : torch::CppFunction::makeFromBoxedFunction<&kernel>());
  }
}

}  // namespace

TORCH_LIBRARY_IMPL(aten, PrivateUse1, library) {
  library.impl("empty.memory_format", empty);
  library.impl("empty_strided", empty_strided);
  library.impl("_copy_from", copy_from);
  register_every_operator(library);
}

TORCH_LIBRARY(toy, library) {
  library.def("current_device() -> int", []() -> int64_t { return current; });
  library.def("device_count() -> int", []() -> int64_t { return kDevices; });
  library.def("set_device(int index) -> ()", [](int64_t index) { current = static_cast<c10::DeviceIndex>(index); });
  library.def("synchronised() -> int", []() -> int64_t { return synchronised.load(); });
}
