// All of weft. The headers below are the public ones; each can be included alone.
#pragma once

#include <weft/autograd/autograd.hpp>
#include <weft/autograd/leaf.hpp>
#include <weft/autograd/node.hpp>
#include <weft/core/base/api.hpp>
#include <weft/core/base/env.hpp>
#include <weft/core/base/error.hpp>
#include <weft/core/base/log.hpp>
#include <weft/core/base/parallel.hpp>
#include <weft/core/device.hpp>
#include <weft/core/dtype.hpp>
#include <weft/core/infer.hpp>
#include <weft/core/io/safetensors.hpp>
#include <weft/core/io/state_dict.hpp>
#include <weft/core/memory.hpp>
#include <weft/core/op.hpp>
#include <weft/core/ops.hpp>
#include <weft/core/ops_options.hpp>
#include <weft/core/random.hpp>
#include <weft/core/scalar.hpp>
#include <weft/core/shape.hpp>
#include <weft/core/storage.hpp>
#include <weft/core/stream.hpp>
#include <weft/core/tensor.hpp>
#include <weft/dist/store/store.hpp>
#include <weft/dist/store/tcp_store.hpp>
