package mp4

import "math/bits"

// bitWriter writes an RBSP: most significant bit first, with Exp-Golomb codes (H.264 section 9.1).
type bitWriter struct {
	out  []byte
	acc  uint64
	bits uint
}

func (w *bitWriter) u(n uint, v uint64) {
	for n > 0 {
		take := min(n, 8-w.bits%8)
		n -= take
		w.acc = w.acc<<take | v>>n&(1<<take-1)
		w.bits += take
		if w.bits == 8 {
			w.out = append(w.out, byte(w.acc))
			w.acc, w.bits = 0, 0
		}
	}
}

func (w *bitWriter) ue(v uint) {
	n := uint(bits.Len(v + 1))
	w.u(n-1, 0)
	w.u(n, uint64(v+1))
}

func (w *bitWriter) se(v int) {
	if v > 0 {
		w.ue(uint(2*v - 1))
		return
	}
	w.ue(uint(-2 * v))
}

// align pads with zero bits to a byte, as before I_PCM samples.
func (w *bitWriter) align() {
	if w.bits > 0 {
		w.u(8-w.bits, 0)
	}
}

// trail is rbsp_trailing_bits.
func (w *bitWriter) trail() {
	w.u(1, 1)
	w.align()
}

// nal wraps an RBSP: header byte, then emulation prevention (section 7.4.1).
func nal(header byte, rbsp []byte) []byte {
	out := make([]byte, 0, len(rbsp)+len(rbsp)/64+1)
	out = append(out, header)
	zeros := 0
	for _, b := range rbsp {
		if zeros >= 2 && b <= 3 {
			out = append(out, 3)
			zeros = 0
		}
		out = append(out, b)
		if b == 0 {
			zeros++
		} else {
			zeros = 0
		}
	}
	return out
}
