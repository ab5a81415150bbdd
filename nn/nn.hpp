// All of weft::nn, weft::optim and weft::data.
#pragma once

#include <weft/nn/containers.hpp>
#include <weft/nn/functions.hpp>
#include <weft/nn/init.hpp>
#include <weft/nn/layers.hpp>
#include <weft/nn/param.hpp>
#include <weft/nn/state.hpp>
