package mp4

import (
	"bytes"
	"image"
)

// NAL unit headers: nal_ref_idc 3 and a type of table 7-1.
const (
	nalSlice = 0x61
	nalIDR   = 0x65
	nalSPS   = 0x67
	nalPPS   = 0x68
)

// keyEvery is the distance of key frames, in frames: a seek decodes at most so many.
const keyEvery = 12

// macroblock is the 16x16 luma and two 8x8 chroma blocks of an I_PCM macroblock.
type macroblock [384]byte

// encoder makes constrained baseline H.264 without any compression of samples: a macroblock is either I_PCM or, when it
// equals the one before it in time, skipped. Loop filter and residuals are off, so decoding is exact.
type encoder struct {
	width, height   int // of the picture, even
	columns, rows   int // in macroblocks
	number          int // frames since the last key frame
	previous, frame []macroblock
}

func newEncoder(width, height int) *encoder {
	e := &encoder{width: width, height: height, columns: (width + 15) / 16, rows: (height + 15) / 16}
	e.previous, e.frame = make([]macroblock, e.columns*e.rows), make([]macroblock, e.columns*e.rows)
	return e
}

// sps is the sequence parameter set (section 7.3.2.1).
func (e *encoder) sps() []byte {
	var w bitWriter
	w.u(8, 66)   // baseline
	w.u(8, 0xC0) // constrained
	w.u(8, 31)   // level 3.1: up to 3600 macroblocks
	w.ue(0)      // seq_parameter_set_id
	w.ue(4)      // log2_max_frame_num_minus4: 256 frames
	w.ue(2)      // pic_order_cnt_type: output order is decoding order
	w.ue(1)      // max_num_ref_frames
	w.u(1, 0)
	w.ue(uint(e.columns - 1))
	w.ue(uint(e.rows - 1))
	w.u(1, 1) // frame_mbs_only
	w.u(1, 1) // direct_8x8_inference
	right, bottom := e.columns*16-e.width, e.rows*16-e.height
	if right+bottom == 0 {
		w.u(1, 0)
	} else {
		w.u(1, 1) // cropping, in chroma samples
		w.ue(0)
		w.ue(uint(right / 2))
		w.ue(0)
		w.ue(uint(bottom / 2))
	}
	w.u(1, 0) // no VUI
	w.trail()
	return nal(nalSPS, w.out)
}

// pps is the picture parameter set (section 7.3.2.2).
func (e *encoder) pps() []byte {
	var w bitWriter
	w.ue(0)   // pic_parameter_set_id
	w.ue(0)   // seq_parameter_set_id
	w.u(1, 0) // CAVLC
	w.u(1, 0)
	w.ue(0) // one slice group
	w.ue(0) // num_ref_idx_l0_default_active_minus1
	w.ue(0)
	w.u(1, 0)
	w.u(2, 0)
	w.se(0) // pic_init_qp
	w.se(0)
	w.se(0)
	w.u(1, 1) // deblocking_filter_control_present
	w.u(1, 0)
	w.u(1, 0)
	w.trail()
	return nal(nalPPS, w.out)
}

// encode makes the NAL unit of one picture and says whether it is a key frame.
func (e *encoder) encode(img *image.RGBA, index int) (unit []byte, key bool) {
	e.sample(img)
	key = index%keyEvery == 0
	if key {
		e.number = 0
	}
	var w bitWriter
	w.ue(0) // first_mb_in_slice
	if key {
		w.ue(7) // slice_type I, all slices of the picture
	} else {
		w.ue(5) // P
	}
	w.ue(0)
	w.u(8, uint64(e.number))
	if key {
		w.ue(uint(index / keyEvery % 2)) // idr_pic_id differs between neighbours
		w.u(2, 0)                        // dec_ref_pic_marking
	} else {
		w.u(3, 0) // no override, no reordering, no adaptive marking
	}
	w.se(0)
	w.ue(1) // disable_deblocking_filter_idc
	e.macroblocks(&w, key)
	w.trail()
	e.number++
	e.previous, e.frame = e.frame, e.previous
	if key {
		return nal(nalIDR, w.out), true
	}
	return nal(nalSlice, w.out), false
}

// macroblocks writes the slice data (section 7.3.4).
func (e *encoder) macroblocks(w *bitWriter, key bool) {
	skipped := uint(0)
	for i := range e.frame {
		if !key && bytes.Equal(e.frame[i][:], e.previous[i][:]) {
			skipped++
			continue
		}
		if key {
			w.ue(25) // I_PCM
		} else {
			w.ue(skipped)
			w.ue(30) // I_PCM in a P slice
			skipped = 0
		}
		w.align()
		w.out = append(w.out, e.frame[i][:]...)
	}
	if skipped > 0 {
		w.ue(skipped)
	}
}

// sample converts a picture to macroblocks: BT.601 limited range, chroma averaged over 2x2.
func (e *encoder) sample(img *image.RGBA) {
	for row := range e.rows {
		for column := range e.columns {
			mb := &e.frame[row*e.columns+column]
			for y := range 8 {
				for x := range 8 {
					e.block(img, mb, column*16, row*16, x, y)
				}
			}
		}
	}
}

// block samples one chroma sample and its four luma samples. Beyond the border the last pixel repeats.
func (e *encoder) block(img *image.RGBA, mb *macroblock, left, top, x, y int) {
	var sum [3]int
	for dy := range 2 {
		for dx := range 2 {
			px, py := min(left+2*x+dx, img.Rect.Dx()-1), min(top+2*y+dy, img.Rect.Dy()-1)
			p := img.Pix[py*img.Stride+px*4:]
			r, g, b := int(p[0]), int(p[1]), int(p[2])
			mb[(2*y+dy)*16+2*x+dx] = byte((66*r+129*g+25*b+128)>>8 + 16)
			sum[0], sum[1], sum[2] = sum[0]+r, sum[1]+g, sum[2]+b
		}
	}
	r, g, b := sum[0]/4, sum[1]/4, sum[2]/4
	mb[256+y*8+x] = byte((-38*r-74*g+112*b+128)>>8 + 128)
	mb[320+y*8+x] = byte((112*r-94*g-18*b+128)>>8 + 128)
}
