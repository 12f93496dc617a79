// The plug-in libkith-dnn: networks through OpenCV's dnn module, on one thread; see dnn.h.
#include "image/dnn/dnn.h"

#include <cstdio>
#include <cstring>
#include <exception>
#include <memory>
#include <new>
#include <string>
#include <vector>

#include <opencv2/core.hpp>
#include <opencv2/core/utils/logger.hpp>
#include <opencv2/dnn.hpp>

namespace
{

struct Network {
    cv::dnn::Net net;
    std::string layer;
    ki_dnn_input input;
    size_t dim;
};

// One line of at most KI_DNN_MESSAGE bytes.
void say(char *message, const std::string &text)
{
    std::snprintf(message, KI_DNN_MESSAGE, "%s", text.c_str());
    for (char *p = message; *p; p++)
        if (static_cast<unsigned char>(*p) < ' ') *p = ' ';
}

// Run f and turn exceptions into codes.
template <typename F> int guarded(char *message, int failure, F f)
{
    try {
        return f();
    } catch (const cv::Exception &e) {
        say(message, e.err.empty() ? e.what() : e.err);
    } catch (const std::bad_alloc &) {
        say(message, "out of memory");
        return KI_DNN_NOMEM;
    } catch (const std::exception &e) {
        say(message, e.what());
    } catch (...) {
        say(message, "unknown exception");
    }
    return failure;
}

size_t positions(const cv::dnn::MatShape &shape) // of a feature map, beyond batch and channels
{
    size_t n = 1;
    for (size_t i = 2; i < shape.size(); i++) n *= static_cast<size_t>(shape[i]);
    return n;
}

// The input of the last fully connected layer: an inner product, or a convolution of a map of one position, which is
// the same thing. Empty if there is none.
std::string last_feature(const cv::dnn::Net &net, const cv::dnn::MatShape &input)
{
    std::vector<int> ids;
    std::vector<std::vector<cv::dnn::MatShape>> in, out;
    net.getLayersShapes(input, ids, in, out);
    for (size_t i = ids.size(); i-- > 0;) {
        if (ids[i] == 0) continue; // the network's own input
        cv::Ptr<cv::dnn::Layer> layer = net.getLayer(ids[i]);
        bool connected = layer->type == "InnerProduct" ||
                         (layer->type == "Convolution" && !in[i].empty() && positions(in[i][0]) == 1);
        if (!connected) continue;
        std::vector<cv::Ptr<cv::dnn::Layer>> below = net.getLayerInputs(ids[i]);
        if (!below.empty() && !below[0]->name.empty()) return below[0]->name;
    }
    return std::string();
}

// "a, b, c": the last layers, for a user who has to choose.
std::string last_names(const std::vector<std::string> &names)
{
    std::string list;
    for (size_t i = names.size(); i-- > 0 && list.size() + names[i].size() < 250;)
        list += (list.empty() ? "" : ", ") + names[i];
    return list;
}

cv::Mat forward(Network &network, const uint8_t *rgb)
{
    int side = static_cast<int>(network.input.side), size[] = {1, 3, side, side};
    cv::Mat blob(4, size, CV_32F);
    size_t pixels = static_cast<size_t>(side) * static_cast<size_t>(side);
    for (size_t c = 0; c < 3; c++) {
        float *plane = blob.ptr<float>(0, static_cast<int>(c));
        for (size_t i = 0; i < pixels; i++)
            plane[i] = (static_cast<float>(rgb[3 * i + c]) - network.input.mean[c]) * network.input.scale;
    }
    network.net.setInput(blob);
    return network.net.forward(network.layer);
}

int open_network(const void *onnx, size_t size, const ki_dnn_input *input, char layer[KI_DNN_LAYER],
                 void **net, size_t *dim, char message[KI_DNN_MESSAGE])
{
    *net = nullptr;
    return guarded(message, KI_DNN_BAD_FILE, [&]() -> int {
        cv::setNumThreads(1);
        cv::utils::logging::setLogLevel(cv::utils::logging::LOG_LEVEL_SILENT);
        auto network = std::make_unique<Network>();
        network->input = *input;
        network->net = cv::dnn::readNetFromONNX(static_cast<const char *>(onnx), size);
        std::vector<std::string> names = network->net.getLayerNames();
        int side = static_cast<int>(input->side);
        network->layer = layer[0] ? std::string(layer) : last_feature(network->net, {1, 3, side, side});
        if (network->layer.empty()) {
            say(message, "has no fully connected layer: name one of its layers (the last are " +
                             last_names(names) + ")");
            return KI_DNN_NO_LAYER;
        }
        if (network->net.getLayerId(network->layer) < 0) {
            say(message, "has no layer '" + network->layer + "' (the last are " + last_names(names) + ")");
            return KI_DNN_NO_LAYER;
        }
        if (network->layer.size() >= KI_DNN_LAYER) {
            say(message, "has a layer with too long a name");
            return KI_DNN_NO_LAYER;
        }
        std::vector<uint8_t> grey(static_cast<size_t>(side) * static_cast<size_t>(side) * 3, 127);
        cv::Mat result = forward(*network, grey.data());
        network->dim = result.total();
        if (network->dim == 0 || result.type() != CV_32F) {
            say(message, "gives no numbers at layer '" + network->layer + "'");
            return KI_DNN_NO_LAYER;
        }
        std::strcpy(layer, network->layer.c_str());
        *dim = network->dim;
        *net = network.release();
        return KI_DNN_OK;
    });
}

int run_network(void *net, const uint8_t *rgb, float *out, char message[KI_DNN_MESSAGE])
{
    return guarded(message, KI_DNN_FAILED, [&]() -> int {
        Network &network = *static_cast<Network *>(net);
        cv::Mat result = forward(network, rgb);
        if (result.total() != network.dim || result.type() != CV_32F || !result.isContinuous()) {
            say(message, "the network's answer changed its size");
            return KI_DNN_FAILED;
        }
        std::memcpy(out, result.ptr<float>(), network.dim * sizeof *out);
        return KI_DNN_OK;
    });
}

void close_network(void *net)
{
    delete static_cast<Network *>(net);
}

const ki_dnn_plugin plugin = {KI_DNN_ABI, open_network, run_network, close_network};

} // namespace

extern "C" __attribute__((visibility("default"))) const ki_dnn_plugin *kith_dnn_plugin(void);

const ki_dnn_plugin *kith_dnn_plugin(void)
{
    return &plugin;
}
