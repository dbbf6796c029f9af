package front

import "sync"

type pool struct{ sync.Pool }

func (p *pool) Get() []byte  { return *(p.Pool.Get().(*[]byte)) }
func (p *pool) Put(b []byte) { p.Pool.Put(&b) }

// buffers are what bodies are copied with.
var buffers = &pool{sync.Pool{New: func() any { b := make([]byte, 32<<10); return &b }}}
