// All of weft::nn, weft::optim, weft::data and weft::models.
#pragma once

#include <weft/nn/containers.hpp>
#include <weft/nn/data/data_loader.hpp>
#include <weft/nn/data/dataset.hpp>
#include <weft/nn/functions.hpp>
#include <weft/nn/init.hpp>
#include <weft/nn/layers.hpp>
#include <weft/nn/metrics.hpp>
#include <weft/nn/models/llama.hpp>
#include <weft/nn/optim/clip.hpp>
#include <weft/nn/optim/optimizers.hpp>
#include <weft/nn/optim/schedules.hpp>
#include <weft/nn/param.hpp>
#include <weft/nn/state.hpp>
