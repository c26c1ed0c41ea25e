;; A matcher by hand. Tests put their own functions in place of the marked ones.
(module
  (import "monmon:matcher/host@0.1.0" "log" (func $log (param i32 i32 i32)))
  (memory (export "memory") 2)
  (global $next (mut i32) (i32.const 4096))
  ;; From 0: what `describe` gives. From 128: texts. From 512: one parameter. From 1024: answers.
  (data (i32.const 0) "\80\00\00\00\04\00\00\00" "\84\00\00\00\05\00\00\00" "\89\00\00\00\04\00\00\00" "\03\00\00\00" "\00\02\00\00\01\00\00\00")
  (data (i32.const 128) "test1.2.3help" "word")
  ;; name, kind text, many, not required, no default, one-of empty, no bounds, help.
  (data (i32.const 512) "\8d\00\00\00\04\00\00\00" "\03\01\00\00" "\00\00\00\00\00\00\00\00\00\00\00\00" "\00\00\00\00\00\00\00\00")
  (data (i32.const 576) "\89\00\00\00\04\00\00\00")
  (func (export "cabi_realloc") (param $old i32) (param $old_len i32) (param $align i32) (param $len i32) (result i32)
    (local $at i32)
    (local.set $at (i32.and (i32.add (global.get $next) (i32.const 7)) (i32.const -8)))
    (global.set $next (i32.add (local.get $at) (local.get $len)))
    ;; Room is made by pages as it is needed.
    (block $done (loop $more
      (br_if $done (i32.ge_u (i32.mul (memory.size) (i32.const 65536)) (global.get $next)))
      (br_if $done (i32.eq (memory.grow (i32.const 16)) (i32.const -1)))
      (br $more)))
    (local.get $at))
  (func (export "cabi_post_check") (param i32) (global.set $next (i32.const 4096)))
  (func (export "describe") (result i32) {describe})
  (func (export "configure") (param $config i32) (param $length i32) (result i32) {configure})
  (func (export "check") (param $response i32) (result i32) {check})
  {more})
