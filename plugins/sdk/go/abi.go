//go:build wasip1

package monmon

import (
	"math"
	"unsafe"
)

// The layouts are those of the canonical ABI: addresses and lengths have 32 bits, records are aligned as their widest
// field.

//go:wasmimport monmon:matcher/host@0.1.0 log
func hostLog(level uint32, text unsafe.Pointer, length uint32)

// Log writes a line to monmon's log.
func Log(level Level, message string) {
	hostLog(uint32(level), unsafe.Pointer(unsafe.StringData(message)), uint32(len(message)))
}

// What the host holds, or is to read, must not be collected meanwhile.
var pins []any

func allocate(bytes uint32) unsafe.Pointer {
	words := make([]uint64, (bytes+7)/8+1)
	pins = append(pins, words)
	return unsafe.Pointer(unsafe.SliceData(words))
}

//go:wasmexport cabi_realloc
func cabiRealloc(old unsafe.Pointer, oldLength, align, length uint32) unsafe.Pointer {
	made := allocate(length)
	if oldLength > 0 {
		copy(unsafe.Slice((*byte)(made), length), unsafe.Slice((*byte)(old), oldLength))
	}
	return made
}

// record is a piece of memory that is filled field by field.
type record struct{ at unsafe.Pointer }

func newRecord(bytes uint32) record { return record{allocate(bytes)} }

func (r record) u8(offset uint32, value uint8)    { *(*uint8)(unsafe.Add(r.at, offset)) = value }
func (r record) u32(offset uint32, value uint32)  { *(*uint32)(unsafe.Add(r.at, offset)) = value }
func (r record) f64(offset uint32, value float64) { *(*uint64)(unsafe.Add(r.at, offset)) = math.Float64bits(value) }

func (r record) flag(offset uint32, value bool) {
	if value {
		r.u8(offset, 1)
	}
}

func (r record) list(offset uint32, at unsafe.Pointer, length int) {
	r.u32(offset, uint32(uintptr(at)))
	r.u32(offset+4, uint32(length))
}

func (r record) text(offset uint32, text string) {
	if len(text) > 0 {
		pins = append(pins, text)
		r.list(offset, unsafe.Pointer(unsafe.StringData(text)), len(text))
	}
}

func (r record) optionalText(offset uint32, text string) {
	if text != "" {
		r.u8(offset, 1)
		r.text(offset+4, text)
	}
}

func (r record) optionalNumber(offset uint32, number *float64) {
	if number != nil {
		r.u8(offset, 1)
		r.f64(offset+8, *number)
	}
}

// elements fills a list of so many records.
func (r record) elements(offset uint32, count int, size uint32, fill func(int, record)) {
	if count == 0 {
		return
	}
	list := allocate(uint32(count) * size)
	for i := range count {
		fill(i, record{unsafe.Add(list, uint32(i)*size)})
	}
	r.list(offset, list, count)
}

// source is a piece of memory that the host has filled.
type source struct{ at unsafe.Pointer }

func (s source) u8(offset uint32) uint8   { return *(*uint8)(unsafe.Add(s.at, offset)) }
func (s source) u32(offset uint32) uint32 { return *(*uint32)(unsafe.Add(s.at, offset)) }
func (s source) u64(offset uint32) uint64 { return *(*uint64)(unsafe.Add(s.at, offset)) }

func (s source) bytes(offset uint32) []byte {
	length := s.u32(offset + 4)
	if length == 0 {
		return nil
	}
	return unsafe.Slice((*byte)(pointer(s.u32(offset))), length)
}

func (s source) text(offset uint32) string { return string(s.bytes(offset)) }

func (s source) optional(offset uint32) *uint64 {
	if s.u8(offset) == 0 {
		return nil
	}
	value := s.u64(offset + 8)
	return &value
}

// pointer makes a pointer of an address that the host gave, which it had from cabi_realloc.
func pointer(address uint32) unsafe.Pointer {
	wide := uintptr(address)
	return *(*unsafe.Pointer)(unsafe.Pointer(&wide))
}

//go:wasmexport describe
func describe() unsafe.Pointer {
	said := matcher.Describe()
	ret := newRecord(36)
	ret.text(0, said.Name)
	ret.text(8, said.Version)
	ret.text(16, said.Help)
	var needs uint8
	if said.NeedsBody {
		needs |= 1
	}
	if said.NeedsHeaders {
		needs |= 2
	}
	ret.u8(24, needs)
	ret.elements(28, len(said.Parameters), 72, func(i int, into record) {
		parameter := said.Parameters[i]
		into.text(0, parameter.Name)
		into.u8(8, uint8(parameter.Kind))
		into.flag(9, parameter.Many)
		into.flag(10, parameter.Required)
		into.optionalText(12, parameter.Default)
		into.elements(24, len(parameter.OneOf), 8, func(i int, into record) { into.text(0, parameter.OneOf[i]) })
		into.optionalNumber(32, parameter.Min)
		into.optionalNumber(48, parameter.Max)
		into.text(64, parameter.Help)
	})
	return ret.at
}

//go:wasmexport cabi_post_describe
func postDescribe(unsafe.Pointer) { pins = nil }

//go:wasmexport configure
func configure(config unsafe.Pointer, length uint32) unsafe.Pointer {
	ret := newRecord(12)
	copied := append([]byte(nil), unsafe.Slice((*byte)(config), length)...)
	if err := matcher.Configure(copied); err != nil {
		ret.u8(0, 1)
		ret.text(4, err.Error())
	}
	return ret.at
}

//go:wasmexport cabi_post_configure
func postConfigure(unsafe.Pointer) { pins = nil }

//go:wasmexport check
func check(given unsafe.Pointer) unsafe.Pointer {
	response := read(source{given})
	verdict, err := ask(response)
	ret := newRecord(36)
	if err != "" {
		ret.u8(0, 1)
		ret.text(4, err)
		return ret.at
	}
	ret.flag(4, verdict.Matched)
	ret.optionalText(8, verdict.Message)
	ret.elements(20, len(verdict.Values), 16, func(i int, into record) {
		into.text(0, verdict.Values[i].Name)
		into.text(8, verdict.Values[i].Value)
	})
	ret.elements(28, len(verdict.Metrics), 24, func(i int, into record) {
		into.text(0, verdict.Metrics[i].Name)
		into.f64(8, verdict.Metrics[i].Value)
		into.text(16, verdict.Metrics[i].Unit)
	})
	return ret.at
}

//go:wasmexport cabi_post_check
func postCheck(unsafe.Pointer) { pins = nil }

// ask calls the matcher. What a panic says may have the page in it.
func ask(response *Response) (verdict Verdict, err string) {
	defer func() {
		if recover() != nil {
			err = "the plugin panicked"
		}
	}()
	verdict, failure := matcher.Check(response)
	if failure != nil {
		err = failure.Error()
		if err == "" {
			err = "no reason was given"
		}
	}
	return verdict, err
}

func read(given source) *Response {
	response := &Response{
		URL:           given.text(0),
		Status:        uint16(given.u32(8)),
		Body:          given.bytes(20),
		BodyTruncated: given.u8(28) != 0,
		Phases: Phases{
			DNS:      given.optional(32),
			Connect:  given.optional(48),
			TLS:      given.optional(64),
			Wait:     given.optional(80),
			Transfer: given.optional(96),
			Total:    given.u64(112),
		},
	}
	headers := given.u32(12)
	for i := range given.u32(16) {
		header := source{pointer(headers + i*16)}
		response.Headers = append(response.Headers, Header{Name: header.text(0), Value: header.bytes(8)})
	}
	return response
}
