;; What policies/service-b is to fusebox, to Envoy: looks at the status of every response, and takes 503 for a failure.
;; It says so by a header, which costs nothing as long as nothing fails. Proxy-Wasm ABI 0.2.1.
(module
  (import "env" "proxy_get_header_map_value"
    (func $get_header (param $map i32) (param $key i32) (param $key_size i32)
                      (param $value i32) (param $value_size i32) (result i32)))
  (import "env" "proxy_add_header_map_value"
    (func $add_header (param $map i32) (param $key i32) (param $key_size i32)
                      (param $value i32) (param $value_size i32) (result i32)))

  (memory (export "memory") 1)
  (data (i32.const 16) ":status")
  (data (i32.const 32) "x-handled")
  (data (i32.const 48) "1")

  ;; At 64 and 68 the host puts where the value is, and how long. What it allocates in one call starts at 1024.
  (global $free (mut i32) (i32.const 1024))
  (func (export "proxy_on_memory_allocate") (param $size i32) (result i32)
    (global.get $free)
    (global.set $free (i32.add (global.get $free) (i32.and (i32.add (local.get $size) (i32.const 7)) (i32.const -8)))))

  (func (export "proxy_on_response_headers") (param $context i32) (param $headers i32) (param $end i32) (result i32)
    (local $value i32)
    (global.set $free (i32.const 1024))
    ;; 2 is the map of response headers.
    (if (i32.eqz (call $get_header (i32.const 2) (i32.const 16) (i32.const 7) (i32.const 64) (i32.const 68)))
      (then
        (local.set $value (i32.load (i32.const 64)))
        (if (i32.and
              (i32.eq (i32.load (i32.const 68)) (i32.const 3))
              (i32.and
                (i32.eq (i32.load16_u (local.get $value)) (i32.const 0x3035))          ;; "50"
                (i32.eq (i32.load8_u offset=2 (local.get $value)) (i32.const 0x33))))  ;; "3"
          (then
            (drop (call $add_header (i32.const 2) (i32.const 32) (i32.const 9) (i32.const 48) (i32.const 1)))))))
    ;; Continue.
    (i32.const 0))

  (func (export "proxy_abi_version_0_2_1"))
  (func (export "_initialize"))
  (func (export "proxy_on_context_create") (param i32 i32))
  (func (export "proxy_on_vm_start") (param i32 i32) (result i32) (i32.const 1))
  (func (export "proxy_on_configure") (param i32 i32) (result i32) (i32.const 1))
  (func (export "proxy_on_done") (param i32) (result i32) (i32.const 1))
  (func (export "proxy_on_delete") (param i32)))
