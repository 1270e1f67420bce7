// The virtual board: a whole top under Verilator, its UART on a TCP port or a pty.
//
// Bytes from the line become start, data and stop bits on the top's uart_rx, and bits on uart_tx become bytes
// again; the top cannot tell it from a wire. The clock stands still only where nobody could notice: when the
// line has been silent for longer than any command or its timeout lasts.
//
// Usage: board (--tcp HOST PORT | --pty) BIT_CLOCKS SILENT_CLOCKS
// The first line on standard output says where the line is. Ends when standard input ends.

#include <arpa/inet.h>
#include <cerrno>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <fcntl.h>
#include <memory>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <string>
#include <sys/socket.h>
#include <termios.h>
#include <unistd.h>
#include <vector>

#include "Vtop.h"
#include "verilated.h"

namespace {

[[noreturn]] void fail(const char* what) {
    std::fprintf(stderr, "%s: %s\n", what, std::strerror(errno));
    std::exit(2);
}

// Where bytes come from and go to. `descriptor` is -1 while nobody is there.
class Line {
public:
    int listener = -1;
    int descriptor = -1;

    void open_tcp(const char* host, int port) {
        listener = socket(AF_INET, SOCK_STREAM, 0);
        if (listener < 0) fail("socket");
        int on = 1;
        setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
        sockaddr_in address{};
        address.sin_family = AF_INET;
        address.sin_port = htons(static_cast<uint16_t>(port));
        if (inet_pton(AF_INET, host, &address.sin_addr) != 1) {
            std::fprintf(stderr, "host must be an IPv4 address, not %s\n", host);
            std::exit(2);
        }
        if (bind(listener, reinterpret_cast<sockaddr*>(&address), sizeof address)) fail("bind");
        if (listen(listener, 1)) fail("listen");
        socklen_t size = sizeof address;
        getsockname(listener, reinterpret_cast<sockaddr*>(&address), &size);
        std::printf("socket://%s:%d\n", host, ntohs(address.sin_port));
    }

    void open_pty() {
        descriptor = posix_openpt(O_RDWR | O_NOCTTY);
        if (descriptor < 0 || grantpt(descriptor) || unlockpt(descriptor)) fail("pty");
        const char* name = ptsname(descriptor);
        // Held open and raw on this side, so that a client may come and go.
        int other = open(name, O_RDWR | O_NOCTTY);
        termios settings{};
        if (other < 0 || tcgetattr(other, &settings)) fail("pty");
        cfmakeraw(&settings);
        tcsetattr(other, TCSANOW, &settings);
        std::printf("%s\n", name);
    }

    // Wait up to `milliseconds` (-1: for ever) until something may be read; false when standard input has ended.
    bool wait(int milliseconds) {
        pollfd all[2] = {{STDIN_FILENO, POLLIN, 0}, {descriptor >= 0 ? descriptor : listener, POLLIN, 0}};
        if (poll(all, 2, milliseconds) < 0 && errno != EINTR) fail("poll");
        if (all[0].revents) {
            char byte;
            if (read(STDIN_FILENO, &byte, 1) <= 0) return false;
        }
        if (all[1].revents && descriptor < 0) accept_client();
        return true;
    }

    void receive(std::deque<uint8_t>& into) {
        if (descriptor < 0) return;
        pollfd one = {descriptor, POLLIN, 0};
        while (poll(&one, 1, 0) > 0 && into.size() < 65536) {
            uint8_t bytes[4096];
            ssize_t count = read(descriptor, bytes, sizeof bytes);
            if (count <= 0) return hang_up();
            into.insert(into.end(), bytes, bytes + count);
        }
    }

    void send(std::vector<uint8_t>& bytes) {
        size_t done = 0;
        while (descriptor >= 0 && done < bytes.size()) {
            ssize_t count = listener >= 0 ? ::send(descriptor, &bytes[done], bytes.size() - done, MSG_NOSIGNAL)
                                          : write(descriptor, &bytes[done], bytes.size() - done);
            if (count <= 0) hang_up();
            else done += static_cast<size_t>(count);
        }
        bytes.clear();  // with nobody there they are lost, as on a wire
    }

private:
    void accept_client() {
        descriptor = accept(listener, nullptr, nullptr);
        int on = 1;
        if (descriptor >= 0) setsockopt(descriptor, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    }
    void hang_up() {
        if (listener < 0) return;  // a pty stays
        close(descriptor);
        descriptor = -1;
    }
};

// A byte as 10 bits, each held for `bit` clocks.
class ToBits {
public:
    explicit ToBits(unsigned bit) : bit_(bit) {}
    bool busy() const { return left_ > 0; }
    void load(uint8_t byte) {
        shift_ = 0x200u | static_cast<unsigned>(byte) << 1;
        left_ = 10;
        timer_ = bit_;
    }
    uint8_t level() const { return left_ > 0 ? shift_ & 1u : 1; }
    void clock() {
        if (left_ > 0 && --timer_ == 0) {
            shift_ >>= 1;
            --left_;
            timer_ = bit_;
        }
    }

private:
    unsigned bit_, shift_ = 0, left_ = 0, timer_ = 0;
};

// Bits, each sampled in its middle, as bytes.
class FromBits {
public:
    explicit FromBits(unsigned bit) : bit_(bit) {}
    bool busy() const { return left_ > 0; }
    bool clock(uint8_t level, uint8_t& byte) {
        if (left_ == 0) {
            if (!level) {
                left_ = 10;
                timer_ = bit_ / 2;
            }
            return false;
        }
        if (--timer_ > 0) return false;
        timer_ = bit_;
        shift_ = shift_ >> 1 | static_cast<unsigned>(level) << 9;
        if (--left_ > 0) return false;
        byte = static_cast<uint8_t>(shift_ >> 1);
        return true;
    }

private:
    unsigned bit_, shift_ = 0, left_ = 0, timer_ = 0;
};

}  // namespace

int main(int count, char** given) {
    std::vector<std::string> words(given + 1, given + count);
    Line line;
    size_t at;
    if (words.size() == 5 && words[0] == "--tcp") {
        line.open_tcp(words[1].c_str(), std::atoi(words[2].c_str()));
        at = 3;
    } else if (words.size() == 3 && words[0] == "--pty") {
        line.open_pty();
        at = 1;
    } else {
        std::fprintf(stderr, "usage: board (--tcp HOST PORT | --pty) BIT_CLOCKS SILENT_CLOCKS\n");
        return 2;
    }
    std::fflush(stdout);
    const unsigned bit = static_cast<unsigned>(std::atoi(words[at].c_str()));
    const uint64_t silent = static_cast<uint64_t>(std::atoll(words[at + 1].c_str()));

    auto context = std::make_unique<VerilatedContext>();
    auto top = std::make_unique<Vtop>(context.get());
    std::deque<uint8_t> received;
    std::vector<uint8_t> answers;
    ToBits to_board(bit);
    FromBits from_board(bit);
    auto clock = [&] {
        top->clk = 0;
        top->eval();
        top->clk = 1;
        top->eval();
    };
    top->uart_rx = 1;
    top->rst = 1;
    for (int i = 0; i < 4; ++i) clock();
    top->rst = 0;

    uint64_t quiet = silent;
    for (;;) {
        // A byte's time at the most between two looks at the line.
        for (unsigned i = 0; i < 10 * bit; ++i) {
            if (!to_board.busy() && !received.empty()) {
                to_board.load(received.front());
                received.pop_front();
            }
            top->uart_rx = to_board.level();
            clock();
            to_board.clock();
            uint8_t byte;
            if (from_board.clock(top->uart_tx, byte)) answers.push_back(byte);
        }
        bool active = to_board.busy() || from_board.busy() || !received.empty();
        quiet = active ? 0 : quiet + 10 * bit;
        if (!answers.empty()) line.send(answers);
        if (!line.wait(active || quiet < silent ? 0 : -1)) return 0;
        line.receive(received);
        if (!received.empty()) quiet = 0;  // a lone byte has passed before the next look
    }
}
