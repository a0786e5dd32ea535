# Writes OUT, a C file with the text of IN: cmake -DIN=… -DOUT=… -P runner_rules.cmake
file(READ "${IN}" bytes HEX)
string(LENGTH "${bytes}" digits)
math(EXPR length "${digits} / 2")
string(REGEX REPLACE "([0-9a-f][0-9a-f])" "0x\\1," bytes "${bytes}")
string(REGEX REPLACE "((0x[0-9a-f][0-9a-f],)(0x[0-9a-f][0-9a-f],)(0x[0-9a-f][0-9a-f],)(0x[0-9a-f][0-9a-f],)(0x[0-9a-f][0-9a-f],)(0x[0-9a-f][0-9a-f],)(0x[0-9a-f][0-9a-f],)(0x[0-9a-f][0-9a-f],))" "\\1\n" bytes "${bytes}")
file(WRITE "${OUT}" "#include <stddef.h>\n\nextern const char runner_rules_text[];\nextern const size_t runner_rules_len;\n\nconst size_t runner_rules_len = ${length};\nconst char runner_rules_text[] = {\n${bytes}0x00\n};\n")
