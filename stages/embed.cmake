# Writes OUT, a C file that holds the text of IN as `const char NAME[]`: cmake -DIN=… -DOUT=… -DNAME=… -P embed.cmake
file(READ "${IN}" bytes HEX)
string(REGEX REPLACE "([0-9a-f][0-9a-f])" "0x\\1," bytes "${bytes}")
file(WRITE "${OUT}" "extern const char ${NAME}[];\nconst char ${NAME}[] = {${bytes}0x00};\n")
