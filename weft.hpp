// All of weft. The headers below are the public ones; each can be included alone.
#pragma once

#include <weft/core/base/api.hpp>
#include <weft/core/base/env.hpp>
#include <weft/core/base/error.hpp>
#include <weft/core/base/log.hpp>
#include <weft/core/device.hpp>
#include <weft/core/dtype.hpp>
